"""The engines these tests talk to: started once, in a folder of their own, or those whose URLs are given."""

import os
from collections.abc import Iterator

import pytest

from mybroker.local.engines.facade import Engines


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    engines = Engines(tmp_path_factory.mktemp("engines"), {"MYBROKER_RABBIT_URL": ""} | dict(os.environ))
    engines.start()
    yield engines
    engines.stop()
    engines.remove_data()


@pytest.fixture(scope="session")
def kafka_url(engines: Engines) -> str:
    return engines.urls.kafka


@pytest.fixture(scope="session")
def rabbit(engines: Engines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    """RabbitMQ alone, beside the others: it takes longer to start, and only the door needs it."""
    given = {"MYBROKER_POSTGRES_ADMIN_URL": engines.urls.postgres_admin} | engines.urls.as_env()
    del given["MYBROKER_RABBIT_URL"]
    rabbit = Engines(tmp_path_factory.mktemp("rabbit"), given | dict(os.environ))
    rabbit.prepare()
    if not rabbit.urls.rabbit:
        rabbit.stop()
        pytest.skip("no RabbitMQ here: neither a URL, nor rabbitmq-server on PATH")
    rabbit.start()
    yield rabbit
    rabbit.stop()
