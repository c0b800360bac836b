"""RabbitMQ: `rabbitmq-server` where it is on PATH, else, as root on Debian, installed from Debian's packages.

A node of its own: name, ports, folders and cookie are this session's, its port mapper (epmd) is a child of ours on a
port of ours, and everything listens on 127.0.0.1. No plugins. Where there is none, order entry uses its Kafka route.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mybroker.local.engines.children import Child, Nursery
from mybroker.local.engines.downloads import cache_folder, locked
from mybroker.local.engines.model import OnProgress, Waiting
from mybroker.local.engines.passwords import Passwords, write_private
from mybroker.local.engines.ports import listens

PORT_NAMES = ("rabbit", "rabbit_dist", "rabbit_epmd")
USER = "mybroker"
MEMORY_MAX_MB = 512
DISK_FREE_MIN_MB = 64
PROBE_TIMEOUT_S = 4.0
INSTALL_TIMEOUT_S = 600
SEARCH_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/lib/rabbitmq/bin", "/opt/homebrew/sbin"))
POLICY_PATH = Path("/usr/sbin/policy-rc.d")


class Rabbit:
    """This session's RabbitMQ node."""

    name = "rabbit"
    note = ""

    def __init__(self, folder: Path, ports: dict[str, int], nursery: Nursery, passwords: Passwords) -> None:
        self._folder = folder / "rabbit"
        self._ports = ports
        self._nursery = nursery
        self._passwords = passwords

    @property
    def port(self) -> int:
        return self._ports["rabbit"]

    @property
    def url(self) -> str:
        return f"amqp://{USER}:{self._passwords.get('rabbit')}@127.0.0.1:{self._ports['rabbit']}/"

    @property
    def log_path(self) -> str:
        return str(self._folder / "rabbit.log")

    def children(self) -> tuple[Child, ...]:
        return self._nursery.children()

    def forget_ended(self) -> None:
        self._nursery.forget_ended()

    def prepare(self, on_progress: OnProgress) -> None:
        (self._folder / "home").mkdir(parents=True, exist_ok=True)

    def launch(self) -> Iterator[Waiting]:
        server = server_script()
        epmd = shutil.which("epmd", path=SEARCH_PATH)
        assert server is not None and epmd is not None, "looked for before this engine was chosen"
        self._write_settings()
        epmd_port = self._ports["rabbit_epmd"]
        if not any(child.name == "epmd" and not child.has_ended() for child in self.children()):
            command = [epmd, "-address", "127.0.0.1", "-port", str(epmd_port)]
            self._nursery.spawn("epmd", command, log=self._folder / "epmd.log")
        yield lambda: listens(epmd_port)
        self._nursery.spawn(
            "rabbit",
            [str(server)],
            log=Path(self.log_path),
            stop_signal=signal.SIGTERM,
            env=self._environment(server),
            cwd=self._folder,
        )

    def probe(self) -> None:
        probe(self.url)

    def settle(self) -> None:
        """Nothing: the door declares its queues."""

    def _write_settings(self) -> None:
        write_private(
            self._folder / "rabbitmq.conf",
            f"listeners.tcp.1 = 127.0.0.1:{self._ports['rabbit']}\n"
            f"default_user = {USER}\n"
            f"default_pass = {self._passwords.get('rabbit')}\n"
            f"vm_memory_high_watermark.absolute = {MEMORY_MAX_MB}MB\n"
            f"disk_free_limit.absolute = {DISK_FREE_MIN_MB}MB\n"
            "log.console = true\n"
            "log.console.level = info\n"
            "log.file = false\n"
            "reverse_dns_lookups = false\n",
        )
        write_private(self._folder / "home" / ".erlang.cookie", self._passwords.get("rabbit-cookie"))
        (self._folder / "home" / ".erlang.cookie").chmod(0o400)
        (self._folder / "enabled_plugins").write_text("[].\n")
        # Stands for the machine's own file, which belongs to another node.
        (self._folder / "rabbitmq-env.conf").write_text("")

    def _without_plugins(self, server: Path) -> dict[str, str]:
        """Return the variable for a folder with the broker alone: looking through all that ship with it takes 2 s."""
        own = self._folder / "plugins"
        brokers = [path for path in (server.resolve().parent.parent / "plugins").glob("rabbit-*") if path.is_dir()]
        if not brokers:
            return {}
        shutil.rmtree(own, ignore_errors=True)
        own.mkdir()
        for broker in brokers:
            (own / broker.name).symlink_to(broker)
        return {"RABBITMQ_PLUGINS_DIR": str(own)}

    def _environment(self, server: Path) -> dict[str, str]:
        """Return a full set of its variables: none of the machine's own node may shine through."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_"))}
        kept.pop("NOTIFY_SOCKET", None)
        return kept | {
            "HOME": str(self._folder / "home"),
            "ERL_EPMD_PORT": str(self._ports["rabbit_epmd"]),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_CRASH_DUMP_SECONDS": "0",
            # Makes the script replace itself by the server: the process we started is the one we stop.
            "RUNNING_UNDER_SYSTEMD": "true",
            "RABBITMQ_NODENAME": "mybroker@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self._ports["rabbit"]),
            "RABBITMQ_DIST_PORT": str(self._ports["rabbit_dist"]),
            "RABBITMQ_CONF_ENV_FILE": str(self._folder / "rabbitmq-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(self._folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self._folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "enabled_plugins"),
            **self._without_plugins(server),
            "RABBITMQ_PLUGINS_EXPAND_DIR": str(self._folder / "plugins-expanded"),
            "RABBITMQ_MNESIA_BASE": str(self._folder / "data"),
            "RABBITMQ_FEATURE_FLAGS_FILE": str(self._folder / "data" / "feature_flags"),
            "RABBITMQ_PID_FILE": str(self._folder / "rabbit.pid"),
            "RABBITMQ_LOG_BASE": str(self._folder / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}",
        }


def probe(url: str) -> None:
    """Publish one message with confirmation to a queue of our own and get it back."""
    asyncio.run(asyncio.wait_for(_probe(url), PROBE_TIMEOUT_S))


async def _probe(url: str) -> None:
    import aio_pika

    connection = await aio_pika.connect(url, timeout=PROBE_TIMEOUT_S)
    async with connection:
        channel = await connection.channel(publisher_confirms=True)
        queue = await channel.declare_queue(exclusive=True, auto_delete=True)
        await channel.default_exchange.publish(aio_pika.Message(b"check"), routing_key=queue.name)
        message = await queue.get(timeout=PROBE_TIMEOUT_S)
        assert message is not None, "get raises where the queue is empty"
        await message.ack()


def server_script() -> Path | None:
    """Return RabbitMQ's own start script, None where it is not installed.

    Debian puts a wrapper on PATH that insists on its own user; the script it calls does not.
    """
    found = shutil.which("rabbitmq-server", path=SEARCH_PATH)
    if found is None or shutil.which("epmd", path=SEARCH_PATH) is None:
        return None
    script = Path(found).resolve().parent / "rabbitmq-server"
    return script if script.exists() else Path(found)


def can_install() -> bool:
    """Say whether Debian's package can be installed here."""
    return os.geteuid() == 0 and Path("/etc/debian_version").exists() and shutil.which("apt-get") is not None


def install(on_progress: OnProgress) -> str:
    """Install Debian's package without starting Debian's own node; return "" or what went wrong in one line."""
    on_progress("rabbit", "installing rabbitmq-server from Debian's packages", 0, 0)
    with locked(cache_folder() / "rabbit.lock"):
        if server_script() is not None:
            return ""
        with _services_stay_down():
            trouble = _apt("install")
            if trouble:
                on_progress("rabbit", "updating the package lists", 0, 0)
                trouble = _apt("update") or _apt("install")
        if Path("/run/systemd/system").exists():
            subprocess.run(["systemctl", "disable", "rabbitmq-server"], capture_output=True, check=False)
    return "" if server_script() is not None else trouble or "installed, and still not found"


def _apt(action: str) -> str:
    packages = ["--no-install-recommends", "rabbitmq-server"] if action == "install" else []
    command = ["apt-get", "-y", "-q", "-o", "DPkg::Lock::Timeout=120", action, *packages]
    env = dict(os.environ) | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"apt-get {action} did not end within {INSTALL_TIMEOUT_S} s"
    if done.returncode == 0:
        return ""
    lines = (done.stderr or done.stdout).strip().splitlines()
    return f"apt-get {action}: {lines[-1] if lines else f'exit code {done.returncode}'}"


@contextmanager
def _services_stay_down() -> Iterator[None]:
    """Tell Debian's scripts not to start what they install. A policy that is there already is left alone."""
    if POLICY_PATH.exists():
        yield
        return
    POLICY_PATH.write_text("#!/bin/sh\nexit 101\n")
    POLICY_PATH.chmod(0o755)
    try:
        yield
    finally:
        POLICY_PATH.unlink(missing_ok=True)
