"""The engines these tests talk to: started once, in a folder of their own, or those whose URLs are given."""

import os
from collections.abc import Iterator

import pytest

from mybroker.local.engines.facade import Engines


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    engines = Engines(tmp_path_factory.mktemp("engines"), os.environ)
    engines.start()
    yield engines
    engines.stop()
    engines.remove_data()


@pytest.fixture(scope="session")
def kafka_url(engines: Engines) -> str:
    return engines.urls.kafka


@pytest.fixture(scope="session")
def rabbit_url(engines: Engines) -> str:
    url = engines.urls.rabbit
    if url is None:
        pytest.skip("no RabbitMQ here: neither a URL, nor rabbitmq-server on PATH")
    return url
