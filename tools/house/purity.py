"""Pure packages import nothing that does I/O, tells the time, rolls dice or came from a registry.

import-linter checks the walls between packages and the client libraries by name; this rule closes the rest: any
third-party package at all, and standard modules with effects. Imports under `if TYPE_CHECKING` count too: a type from
outside is a dependency.

cli and prove may use the pure half of two services (`mybroker match` and the audit replay with the very engine that
traded); nothing else in the library may name a service.
"""

import ast
import sys
from collections.abc import Iterator

from tools.house.source import Finding, Source

STANDARD_REFUSED = frozenset(
    {
        "asyncio",
        "concurrent",
        "ctypes",
        "ftplib",
        "http",
        "io",
        "logging",
        "mmap",
        "multiprocessing",
        "os",
        "pathlib",
        "random",
        "sched",
        "secrets",
        "select",
        "selectors",
        "shutil",
        "signal",
        "socket",
        "socketserver",
        "sqlite3",
        "ssl",
        "subprocess",
        "tempfile",
        "threading",
        "time",
        "urllib",
        "uuid",
    }
)

# Package -> what it may import from outside the standard library (first part of the name, or a dotted prefix).
PURE: dict[str, tuple[str, ...]] = {
    "mybroker.domain": ("mybroker.domain",),
    "mybroker.plan": ("mybroker.plan", "mybroker.contracts", "mybroker.domain"),
    "services.b3_matcher.engine": ("services.b3_matcher.engine", "mybroker.contracts", "mybroker.domain"),
    "services.b3_matcher.shard": ("services.b3_matcher.engine", "mybroker.contracts", "mybroker.domain"),
    "services.broker_wallet.ledger": ("services.broker_wallet.ledger", "mybroker.contracts", "mybroker.domain"),
}

# `mybroker.contracts` reads its committed files and knows the codec; it is no client of anything.
CONTRACTS_MAY_USE = ("mybroker.contracts", "mybroker.domain", "msgspec", "yaml")

PURE_HALVES = (
    "services.b3_matcher.engine",
    "services.b3_matcher.shard",
    "services.b3_matcher.tape",
    "services.broker_wallet.ledger",
)
SERVICES_SEEN_BY = {"mybroker.cli": PURE_HALVES, "mybroker.prove": PURE_HALVES}


def imported_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every imported module's dotted name with its line; `from a import b` gives `a.b`, which may be a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def lies_in(name: str, prefixes: tuple[str, ...]) -> bool:
    """Say whether the dotted `name` is one of `prefixes` or below one."""
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def check_purity(sources: list[Source]) -> Iterator[Finding]:
    """Yield imports that a pure package must not have."""
    for source in sources:
        allowed = next((may for package, may in PURE.items() if source.is_below(package)), None)
        if allowed is not None:
            yield from refused_imports(source, allowed, STANDARD_REFUSED)
        elif source.is_below("mybroker.contracts"):
            yield from refused_imports(source, CONTRACTS_MAY_USE, STANDARD_REFUSED - {"io", "pathlib"})


def refused_imports(source: Source, allowed: tuple[str, ...], standard_refused: frozenset[str]) -> Iterator[Finding]:
    """Yield each import that is neither allowed nor a harmless standard module."""
    for line, name in imported_names(source.tree):
        first = name.split(".", 1)[0]
        harmless = first in sys.stdlib_module_names and first not in standard_refused
        if not harmless and not lies_in(name, allowed):
            message = f"{source.module} is pure and must not import {name}"
            yield Finding(path=source.path, line=line, rule="purity", message=message)


def check_services_seen(sources: list[Source]) -> Iterator[Finding]:
    """Yield imports of a service by the library, but for the engine and the ledger's rules in cli and prove."""
    for source in sources:
        if not source.is_below("mybroker"):
            continue
        allowed = next((may for package, may in SERVICES_SEEN_BY.items() if source.is_below(package)), ())
        for line, name in imported_names(source.tree):
            if lies_in(name, ("services",)) and not lies_in(name, allowed):
                message = f"{source.module} must not import {name}: the library knows no service"
                yield Finding(path=source.path, line=line, rule="services", message=message)
