"""Real engines for the tests through the door, started once."""

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
