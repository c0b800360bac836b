"""Settings: errors name the variable, what was expected and what was given, and never a password."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mybroker.runtime.settings import Settings, SettingsError, load

BASE = {"MYBROKER_NAMESPACE": "local", "MYBROKER_SESSION": "pregao"}

WRONG: list[tuple[dict[str, str], Callable[[Settings], object], str]] = [
    (
        {},
        lambda s: s.kafka_url,
        "MYBROKER_KAFKA_URL: expected host:port of a Kafka broker, without a scheme, given nothing",
    ),
    ({"MYBROKER_KAFKA_URL": "kafka://x:1"}, lambda s: s.kafka_url, "given 'kafka://x:1'"),
    ({"MYBROKER_REDIS_URL": "http://x"}, lambda s: s.redis_url, "MYBROKER_REDIS_URL: expected redis://"),
    ({"MYBROKER_POSTGRES_WALLET_URL": "mysql://u:hidden@h/d"}, lambda s: s.postgres_url("wallet"), "mysql://u:***@h/d"),
    ({"MYBROKER_URL_BROKER_WALLET": "ftp://x"}, lambda s: s.service_url("broker_wallet"), "http://host:port"),
    ({"MYBROKER_DATA_DIR": "relative"}, lambda s: s.data_dir, "absolute path"),
    ({"MYBROKER_SHARD": "one"}, lambda s: s.integer("MYBROKER_SHARD"), "expected a whole number, given 'one'"),
    ({}, lambda s: s.secret("broker-internal"), "MYBROKER_SECRET_BROKER_INTERNAL: expected the secret"),
]


@pytest.mark.parametrize(("environ", "ask", "says"), WRONG)
def test_a_wrong_variable_is_named_with_what_was_expected_and_given(
    environ: dict[str, str], ask: Callable[[Settings], object], says: str
) -> None:
    settings = load(BASE | environ)
    with pytest.raises(SettingsError) as caught:
        ask(settings)
    assert says in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "Has-Hyphen", "a.b", "x" * 41, "_x"])
def test_a_session_name_that_would_break_topic_names_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="MYBROKER_SESSION: expected a name"):
        load(BASE | {"MYBROKER_SESSION": name})


def test_a_port_out_of_range_is_refused() -> None:
    with pytest.raises(SettingsError, match="MYBROKER_HTTP_PORT: expected a port, 0 to 65535, given '70000'"):
        load(BASE | {"MYBROKER_HTTP_PORT": "70000"})


def test_a_door_without_rabbitmq_uses_its_kafka_route() -> None:
    assert load(BASE).rabbit_url is None
    assert load(BASE | {"MYBROKER_RABBIT_URL": ""}).rabbit_url is None
    assert load(BASE | {"MYBROKER_RABBIT_URL": "amqp://g:g@h:5672/"}).rabbit_url == "amqp://g:g@h:5672/"


def test_a_secret_comes_from_its_file_before_the_environment(tmp_path: Path) -> None:
    (tmp_path / "brapi-token").write_text("from file\n")
    environ = BASE | {"MYBROKER_SECRETS_DIR": str(tmp_path), "MYBROKER_SECRET_BRAPI_TOKEN": "from environment"}
    assert load(environ).secret("brapi-token") == "from file"
    (tmp_path / "brapi-token").unlink()
    assert load(environ).secret("brapi-token") == "from environment"


def test_settings_print_without_their_environment() -> None:
    assert "hidden" not in repr(load(BASE | {"MYBROKER_SECRET_X": "hidden"}))
