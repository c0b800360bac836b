"""Each house rule accepts what is right and finds what is wrong."""

import pytest

from tools.house.dependencies import check_dependencies, named
from tools.house.floats import check_floats
from tools.house.names import check_docstrings, check_names
from tools.house.purity import check_purity, check_services_seen
from tools.house.sizes import check_sizes, tightened
from tools.house.source import Finding, Source
from tools.house.strangers import check_strangers, check_text


def lines_of_code(count: int) -> str:
    return "\n".join(f"    line_{number} = {number}" for number in range(count))


def sources(path: str, text: str) -> list[Source]:
    return [Source.parse(path, text)]


def test_a_function_may_have_seventy_lines_and_no_more():
    fits = sources("mybroker/a.py", f"def f():\n{lines_of_code(69)}\n")
    too_long = sources("mybroker/a.py", f"class A:\n  def f():\n{lines_of_code(70)}\n")

    assert list(check_sizes(fits, {})) == []
    assert [finding.message for finding in check_sizes(too_long, {})] == [
        "mybroker/a.py::A::f has 71 lines, at most 70 are allowed"
    ]


def test_a_nested_function_is_measured_too():
    nested = sources("mybroker/a.py", f"def outer():\n  async def inner():\n{lines_of_code(70)}\n")

    assert [finding.message.split()[0] for finding in check_sizes(nested, {})] == [
        "mybroker/a.py::outer",
        "mybroker/a.py::outer::inner",
    ]


def test_a_module_may_have_five_hundred_lines_and_no_more():
    assert list(check_sizes(sources("mybroker/a.py", "x = 1\n" * 500), {})) == []
    assert len(list(check_sizes(sources("mybroker/a.py", "x = 1\n" * 501), {}))) == 1


@pytest.mark.parametrize(
    ("lines", "allowed", "said"),
    [
        (510, 510, None),
        (511, 510, "has 511 lines, at most 510"),
        (509, 510, "shrank to 509 lines"),
        (400, 510, "shrank to 400 lines"),
    ],
)
def test_an_offender_may_only_shrink(lines: int, allowed: int, said: str | None):
    messages = [f.message for f in check_sizes(sources("mybroker/a.py", "x = 1\n" * lines), {"mybroker/a.py": allowed})]

    assert (said is None and not messages) or (said is not None and said in messages[0])


def test_tightening_lowers_entries_and_drops_those_that_are_no_offenders_any_more():
    today = sources("mybroker/a.py", "x = 1\n" * 505) + sources("mybroker/b.py", "x = 1\n" * 10)

    assert tightened(today, {"mybroker/a.py": 510, "mybroker/b.py": 600, "mybroker/gone.py": 700}) == {
        "mybroker/a.py": 505
    }
    assert tightened(today, {"mybroker/a.py": 502}) == {"mybroker/a.py": 502}


def test_a_ratchet_entry_without_its_module_is_found():
    assert [f.message for f in check_sizes([], {"mybroker/gone.py": 700})] == [
        "mybroker/gone.py is gone: tighten the ratchet"
    ]


@pytest.mark.parametrize("path", ["mybroker/utils.py", "services/helpers/a.py", "mybroker/common/__init__.py"])
def test_a_name_that_says_nothing_is_refused(path: str):
    assert [finding.rule for finding in check_names(sources(path, ""))] == ["name"]


def test_a_name_that_only_contains_such_a_word_is_fine():
    assert list(check_names(sources("mybroker/common_stock.py", ""))) == []


def test_a_module_with_code_has_a_docstring():
    assert [f.rule for f in check_docstrings(sources("services/broker_orders/app.py", "x = 1\n"))] == ["docstring"]
    assert list(check_docstrings(sources("services/broker_orders/app.py", '"""The app."""\nx = 1\n'))) == []
    assert list(check_docstrings(sources("services/broker_orders/__init__.py", ""))) == []


@pytest.mark.parametrize(
    "line",
    [
        "price: float = 1",
        "price = 30.05",
        "price = float(text)",
        "half = quantity / 2",
        "quantity /= 2",
        "x: list[float]",
    ],
)
def test_a_float_near_money_is_found(line: str):
    for path in ("mybroker/domain/a.py", "mybroker/contracts/a.py", "services/b3_matcher/engine/a.py"):
        assert [f.rule for f in check_floats(sources(path, line))] == ["float"], path
    assert len(list(check_floats(sources("services/broker_wallet/ledger.py", line)))) == 1
    assert list(check_floats(sources("mybroker/runtime/a.py", line))) == []


def test_integers_and_whole_division_are_no_floats():
    assert (
        list(
            check_floats(
                sources("mybroker/domain/a.py", "half = quantity // 2\nname = 'float'\nhere = folder / 'file'\n")
            )
        )
        == []
    )


@pytest.mark.parametrize(
    ("path", "line", "found"),
    [
        ("mybroker/domain/a.py", "import time", True),
        ("mybroker/domain/a.py", "from os import path", True),
        ("mybroker/domain/a.py", "import msgspec", True),
        ("mybroker/domain/a.py", "from mybroker.contracts import commands", True),
        ("mybroker/domain/a.py", "def f():\n    import random", True),
        ("mybroker/domain/a.py", "from datetime import date\nfrom mybroker.domain import money", False),
        ("mybroker/plan/a.py", "from mybroker.contracts import session", False),
        ("mybroker/plan/a.py", "from mybroker.runtime import clock", True),
        ("mybroker/plan/a.py", "import asyncio", True),
        ("mybroker/contracts/a.py", "import msgspec", False),
        ("mybroker/contracts/a.py", "import aio_pika", True),
        ("mybroker/contracts/a.py", "import time", True),
        ("services/b3_matcher/engine/a.py", "from services.b3_matcher import log", True),
        ("services/b3_matcher/engine/a.py", "from services.b3_matcher.engine import book", False),
        ("services/broker_wallet/ledger.py", "import psycopg", True),
        ("services/broker_wallet/store.py", "import psycopg", False),
        ("mybroker/runtime/a.py", "import time, random, asyncio", False),
    ],
)
def test_pure_packages_import_nothing_with_effects(path: str, line: str, found: bool):
    assert bool(list(check_purity(sources(path, line)))) is found


@pytest.mark.parametrize(
    ("path", "line", "found"),
    [
        ("mybroker/local/a.py", "import services.b3_matcher", True),
        ("mybroker/testing/a.py", "from services.b3_matcher.engine import book", True),
        ("mybroker/prove/a.py", "from services.b3_matcher.engine import book", False),
        ("mybroker/prove/a.py", "from services.b3_matcher import app", True),
        ("mybroker/cli/a.py", "from services.broker_orders import store", True),
    ],
)
def test_the_library_knows_no_service_but_the_audit_knows_the_engine(path: str, line: str, found: bool):
    assert bool(list(check_services_seen(sources(path, line)))) is found


def test_an_extra_declares_the_package_it_brings():
    assert list(named("psycopg[binary,pool]>=3.3; sys_platform != 'win32'")) == [
        "psycopg",
        "psycopg-binary",
        "psycopg-pool",
    ]
    assert list(named("prometheus_client>=0.26")) == ["prometheus-client"]


def dependency_messages(path: str, text: str, *, runtime: set[str], development: set[str]) -> list[str]:
    provided = {"yaml": ["PyYAML"], "pytest": ["pytest"]}
    return [f.message for f in check_dependencies(sources(path, text), runtime, development, provided)]


def test_an_import_nobody_declared_is_found():
    assert dependency_messages("mybroker/a.py", "import yaml", runtime={"pyyaml"}, development=set()) == []
    assert dependency_messages("mybroker/a.py", "import yaml", runtime=set(), development=set()) == [
        "yaml is imported but pyyaml is no direct dependency"
    ]


def test_the_running_system_may_not_import_what_only_development_installs():
    assert dependency_messages("tests/a.py", "import pytest", runtime=set(), development={"pytest"}) == []
    assert len(dependency_messages("services/a.py", "import pytest", runtime=set(), development={"pytest"})) == 1


def test_a_dependency_nobody_imports_is_found():
    assert dependency_messages("mybroker/a.py", "", runtime={"pyyaml"}, development=set()) == [
        "pyyaml is a dependency that no module imports"
    ]
    assert dependency_messages("mybroker/a.py", "find_spec('PyYAML')", runtime={"pyyaml"}, development=set()) == []


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("--index-url https://py" + "pi.org/simple", "stranger"),
        ('"resolved": "https://registry.np' + 'mjs.org/x"', "stranger"),
        ("data = Path('/wo" + "rk/shared')", "stranger"),
        ("/ho" + "me/someone/.cache", "stranger"),
        ("-----BEGIN EC PRIV" + "ATE KEY-----", "secret"),
        ("see docs/wo" + "rk/plan.md and http://example.org/wo" + "rk/", None),
        ("pip install --requirement requirements.txt", None),
    ],
)
def test_hosts_of_registries_paths_of_a_machine_and_keys_are_strangers(line: str, rule: str | None):
    found: list[Finding] = list(check_text("README.md", f"first line\n{line}\n"))

    assert [(f.rule, f.line) for f in found] == ([] if rule is None else [(rule, 2)])


def test_lock_files_and_huge_files_are_refused_and_binary_files_are_not_read(tmp_path):
    (tmp_path / "uv.lock").write_text("")
    (tmp_path / "day.bin").write_bytes(b"\0" * 4_000_001)
    (tmp_path / "small.bin").write_bytes(b"\0 /wo" + b"rk/ ")

    found = list(check_strangers(tmp_path, ["uv.lock", "day.bin", "small.bin"]))

    assert [(f.path, f.rule) for f in found] == [("uv.lock", "lockfile"), ("day.bin", "bytes")]
