"""Real engines for the broker's tests: started once, a fresh database for each test that asks."""

import os
import secrets
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest

from mybroker.local.engines.facade import Engines
from mybroker.runtime.postgres import Pool, migrate, open_pool
from services.broker_wallet import schema as wallet_schema


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    engines = Engines(tmp_path_factory.mktemp("engines"), {"MYBROKER_RABBIT_URL": ""} | dict(os.environ))
    engines.start()
    yield engines
    engines.stop()
    engines.remove_data()


@pytest.fixture
def database(engines: Engines) -> Iterator[str]:
    """The URL of a database nobody else uses."""
    name = f"broker_{secrets.token_hex(6)}"
    admin = engines.urls.postgres_admin
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"create database {name}")
    yield admin.rsplit("/", 1)[0] + f"/{name}"
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"drop database {name} with (force)")


@pytest.fixture
async def wallet_pool(database: str) -> AsyncIterator[Pool]:
    pool = await open_pool(database, connections_max=20)
    await migrate(pool, "broker_wallet", wallet_schema.MIGRATIONS)
    yield pool
    await pool.close()
