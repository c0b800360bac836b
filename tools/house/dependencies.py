"""Every third-party package the code imports is a direct dependency in pyproject.toml, and every one there is used.

What a module imports by luck, because another package brought it, goes away one day. A package whose name stands in the
code as a text counts as used: some are looked up for a binary they carry. Drivers behind other packages are named here.
"""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

from tools.house.purity import imported_names
from tools.house.source import Finding, Source

OUR_PACKAGES = frozenset({"mybroker", "services", "tools", "tests", "bench", "conftest"})
RUNTIME_PACKAGES = ("mybroker", "services")
USED_WITHOUT_IMPORT = frozenset({"httptools", "psycopg-binary", "uvloop", "websockets"})
JAVA_PACKAGES = frozenset({"de", "java", "javax", "org"})  # what JPype makes importable
RULE = "dependency"


def normalized(name: str) -> str:
    """A distribution's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def named(requirement: str) -> Iterator[str]:
    """Distributions one requirement names; `psycopg[pool]` is psycopg and psycopg-pool, as these projects call them."""
    match = re.match(r"([\w.-]+)(?:\[([^\]]*)\])?", requirement)
    assert match is not None, f"expected a requirement, was {requirement!r}"
    yield normalized(match[1])
    if match[2]:
        yield from (normalized(f"{match[1]}-{extra.strip()}") for extra in match[2].split(","))


def declared(pyproject: Path) -> tuple[set[str], set[str]]:
    """Direct dependencies: those of the running system, and those of development alone."""
    project = tomllib.loads(pyproject.read_text())["project"]

    def names(lines: list[str]) -> set[str]:
        return {name for line in lines for name in named(line)}

    return names(project["dependencies"]), names(project["optional-dependencies"]["dev"])


def distributions() -> Mapping[str, list[str]]:
    """Import name -> the installed distributions that provide it."""
    return metadata.packages_distributions()


def texts(tree: ast.Module) -> Iterator[str]:
    """Every text constant."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def check_dependencies(
    sources: list[Source], runtime: set[str], development: set[str], provided: Mapping[str, list[str]]
) -> Iterator[Finding]:
    """Yield imports nobody declared and declarations nobody imports."""
    used: set[str] = set()
    for source in sources:
        if source.is_below(*RUNTIME_PACKAGES):
            used |= {normalized(text) for text in texts(source.tree)}
        may_use = runtime if source.is_below(*RUNTIME_PACKAGES) else runtime | development
        for line, name in imported_names(source.tree):
            first = name.split(".", 1)[0]
            if first in OUR_PACKAGES | JAVA_PACKAGES or first in sys.stdlib_module_names:
                continue
            owners = {normalized(owner) for owner in provided.get(first, [first])}
            used |= owners
            if not owners & may_use:
                message = f"{first} is imported but {' or '.join(sorted(owners))} is no direct dependency"
                yield Finding(path=source.path, line=line, rule=RULE, message=message)
    for name in sorted(runtime - used - USED_WITHOUT_IMPORT):
        message = f"{name} is a dependency that no module imports"
        yield Finding(path="pyproject.toml", line=1, rule=RULE, message=message)
