"""Settings: what a process is told by its environment, read once and checked.

Every process gets the same base variables from the runner or the operator. A missing or malformed variable is an
error that names the variable, what was expected and what was given; secrets are never part of such a message.
Values that only some services need are asked for through methods, so a process that never asks needs no value.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PREFIX = "MYBROKER_"
_NAME = re.compile(r"[a-z0-9]([a-z0-9_-]{0,38}[a-z0-9])?\Z")
_HOST_PORT = re.compile(r"[^\s,:/]+:\d{1,5}(,[^\s,:/]+:\d{1,5})*\Z")


class SettingsError(Exception):
    """A variable of the environment is missing or malformed."""

    def __init__(self, variable: str, expected: str, given: str | None) -> None:
        self.variable = variable
        shown = "nothing" if given is None else repr(given)
        super().__init__(f"{variable}: expected {expected}, given {shown}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The environment of one process. Build it with `load`."""

    namespace: str
    session: str
    http_host: str
    http_port: int
    environ: Mapping[str, str] = field(repr=False)

    @property
    def session_key(self) -> str:
        """The session's name in topics and the directory: `<namespace>.<session>`."""
        return f"{self.namespace}.{self.session}"

    @property
    def data_dir(self) -> Path:
        """The session's folder. Raises SettingsError when it is not an absolute path."""
        given = self.environ.get(PREFIX + "DATA_DIR")
        if not given or not Path(given).is_absolute():
            raise SettingsError(PREFIX + "DATA_DIR", "the absolute path of the session's folder", given)
        return Path(given)

    @property
    def kafka_url(self) -> str:
        return self._url("KAFKA_URL", "host:port of a Kafka broker, without a scheme", _HOST_PORT)

    @property
    def redis_url(self) -> str:
        return self._url("REDIS_URL", "redis://host:port/db", re.compile(r"(rediss?|unix)://\S+\Z"))

    @property
    def mongo_url(self) -> str:
        return self._url("MONGO_URL", "mongodb://host:port/", re.compile(r"mongodb(\+srv)?://\S+\Z"))

    @property
    def rabbit_url(self) -> str | None:
        """The door's RabbitMQ; None means that the door uses its Kafka route."""
        if not self.environ.get(PREFIX + "RABBIT_URL"):
            return None
        return self._url("RABBIT_URL", "amqp://user:password@host:port/vhost", re.compile(r"amqps?://\S+\Z"))

    def postgres_url(self, service: str) -> str:
        """The database of `service` (identity, orders, wallet, assets)."""
        expected = "postgresql://user:password@host:port/database"
        return self._url(f"POSTGRES_{service.upper()}_URL", expected, re.compile(r"postgres(ql)?://\S+\Z"))

    def service_url(self, service: str) -> str:
        """Base URL of another service, without a slash at the end."""
        url = self._url(f"URL_{service.upper()}", "http://host:port", re.compile(r"https?://\S+\Z"))
        return url.rstrip("/")

    def path(self, variable: str) -> Path:
        """The file that `variable` (with its MYBROKER_ prefix) names; it need not exist yet."""
        given = self.environ.get(variable)
        if not given:
            raise SettingsError(variable, "the path of a file", given)
        return Path(given)

    def text(self, variable: str, default: str | None = None) -> str:
        """The text of `variable`, or `default`; without a default it is required."""
        given = self.environ.get(variable, "") or default
        if given is None:
            raise SettingsError(variable, "some text", None)
        return given

    def integer(self, variable: str, default: int | None = None) -> int:
        """The whole number in `variable`, or `default`; without a default it is required."""
        given = self.environ.get(variable, "")
        if not given and default is not None:
            return default
        try:
            return int(given)
        except ValueError:
            raise SettingsError(variable, "a whole number", given or None) from None

    def secret(self, name: str) -> str:
        """The secret `name`: the file of that name in MYBROKER_SECRETS_DIR, else MYBROKER_SECRET_<NAME>.

        Raises SettingsError when neither is there or the file is empty.
        """
        variable = f"{PREFIX}SECRET_{name.upper().replace('-', '_')}"
        folder = self.environ.get(PREFIX + "SECRETS_DIR")
        if folder:
            try:
                text = (Path(folder) / name).read_text(encoding="utf-8").strip()
            except OSError:
                text = ""
            if text:
                return text
        text = self.environ.get(variable, "").strip()
        if not text:
            raise SettingsError(variable, f"the secret, or a file {name!r} in {PREFIX}SECRETS_DIR", None)
        return text

    def _url(self, name: str, expected: str, shape: re.Pattern[str]) -> str:
        given = self.environ.get(PREFIX + name)
        if not given or not shape.match(given):
            raise SettingsError(PREFIX + name, expected, hide_password(given))
        return given


def hide_password(url: str | None) -> str | None:
    """The same URL with the password replaced, fit for logs and errors."""
    return None if url is None else re.sub(r"//([^/:@\s]*):[^@/\s]*@", r"//\1:***@", url)


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the environment. Raises SettingsError for the first variable that is wrong."""
    env = dict(os.environ if environ is None else environ)
    names = {}
    for variable in ("MYBROKER_NAMESPACE", "MYBROKER_SESSION"):
        given = env.get(variable)
        if not given or not _NAME.match(given):
            raise SettingsError(variable, "a name of a-z, 0-9, _ and hyphens, at most 40 long", given)
        names[variable] = given
    port_text = env.get("MYBROKER_HTTP_PORT", "0")
    if not port_text.isdigit() or int(port_text) > 65535:
        raise SettingsError("MYBROKER_HTTP_PORT", "a port, 0 to 65535", port_text)
    return Settings(
        namespace=names["MYBROKER_NAMESPACE"],
        session=names["MYBROKER_SESSION"],
        http_host=env.get("MYBROKER_HTTP_HOST") or "127.0.0.1",
        http_port=int(port_text),
        environ=env,
    )
