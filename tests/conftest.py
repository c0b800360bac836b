"""What holds for every test: quick ones first, and one line for a group that cannot run here.

Markers (pyproject.toml says what each means): `engines` tests get more time and run after the plain ones, `day` tests
still more and run last, `shared` tests are skipped where the data folder is not there. MYBROKER_SHARED_DIR names that
folder; unset, it is `shared` beside the clone.
"""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT_S = {"engines": 300, "day": 1800}


def shared_folder() -> Path:
    """Where real market data lies, if it does."""
    return Path(os.environ.get("MYBROKER_SHARED_DIR") or ROOT.parent / "shared") / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real market data; mark the test `shared` too."""
    return shared_folder()


def slowness(item: pytest.Item) -> int:
    """0 for a plain test, 1 with engines, 2 for a whole day."""
    return max((rank for rank, name in enumerate(TIMEOUT_S, start=1) if item.get_closest_marker(name)), default=0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort by slowness, keeping the order of files, and give slow tests their time."""
    items.sort(key=slowness)
    for item in items:
        rank = slowness(item)
        if rank and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(list(TIMEOUT_S.values())[rank - 1]))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs data that is not here; all such tests fold into one line of the summary."""
    if item.get_closest_marker("shared") and not shared_folder().is_dir():
        pytest.skip("the real market data is not here (MYBROKER_SHARED_DIR, or `shared` beside this clone)")
