"""The import contracts of pyproject.toml hold a small tree of the same shape to the same walls."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

TREE = {
    "mybroker/domain/money.py": "",
    "mybroker/contracts/commands.py": "from mybroker.domain import money",
    "mybroker/plan/make_plan.py": "from mybroker.contracts import commands",
    "mybroker/runtime/kafka.py": "import confluent_kafka\nfrom mybroker.contracts import commands",
    "mybroker/local/runner.py": "from mybroker.plan import make_plan\nfrom mybroker.runtime import kafka",
    "mybroker/testing/builders.py": "from mybroker.local import runner",
    "mybroker/prove/audit.py": "from services.b3_matcher.engine import book",
    "mybroker/cli/main.py": "from mybroker.prove import audit",
    "services/b3_matcher/engine/book.py": "from mybroker.domain import money",
    "services/b3_matcher/app.py": "import asyncio\nfrom mybroker.runtime import kafka",
    "services/broker_wallet/ledger/rules.py": "from mybroker.domain import money",
    "services/broker_orders/app.py": "from mybroker.runtime import kafka",
}


def lint(folder: Path, changes: dict[str, str]) -> subprocess.CompletedProcess[str]:
    for path, text in (TREE | changes).items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
        for parent in file.relative_to(folder).parents[:-1]:
            (folder / parent / "__init__.py").touch()
    (folder / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    program = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    environment = {"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin", "NO_COLOR": "1", "LANG": "C.UTF-8"}
    return subprocess.run(program, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_tree_that_keeps_to_the_table_passes(tmp_path):
    finished = lint(tmp_path, {})

    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "0 broken" in finished.stdout


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("services/broker_orders/app.py", "from services.broker_wallet.ledger import rules"),
        ("mybroker/runtime/kafka.py", "from mybroker.local import runner"),
        ("mybroker/runtime/kafka.py", "from mybroker.plan import make_plan"),
        ("mybroker/plan/make_plan.py", "from mybroker.runtime import kafka"),
        ("mybroker/plan/make_plan.py", "import random"),
        ("mybroker/contracts/commands.py", "import aio_pika"),
        ("mybroker/domain/money.py", "from mybroker.contracts import commands"),
        ("mybroker/domain/money.py", "import time"),
        ("mybroker/local/runner.py", "from services.broker_orders import app"),
        ("mybroker/testing/builders.py", "import services.b3_matcher.engine.book"),
        ("services/b3_matcher/engine/book.py", "import threading"),
        ("services/b3_matcher/engine/book.py", "from services.b3_matcher import app"),
        ("services/broker_wallet/ledger/rules.py", "import uuid"),
    ],
)
def test_each_wall_stands(tmp_path, path: str, text: str):
    finished = lint(tmp_path, {path: text})

    assert finished.returncode == 1, finished.stdout + finished.stderr
    assert "BROKEN" in finished.stdout
