"""A module is named for a noun of the trade and says in its docstring what it promises."""

import ast
from collections.abc import Iterator
from pathlib import PurePosixPath

from tools.house.source import Finding, Source

NAMES_REFUSED = frozenset({"util", "utils", "helper", "helpers", "common", "misc"})
PACKAGES_DOCUMENTED = ("mybroker", "services", "tools", "bench")


def check_names(sources: list[Source]) -> Iterator[Finding]:
    """Yield modules and packages whose name says nothing."""
    for source in sources:
        refused = NAMES_REFUSED.intersection(PurePosixPath(source.path).with_suffix("").parts)
        for name in sorted(refused):
            message = f"`{name}` names no thing: put each helper beside the noun it serves"
            yield Finding(path=source.path, line=1, rule="name", message=message)


def check_docstrings(sources: list[Source]) -> Iterator[Finding]:
    """Yield modules with code and no docstring; an empty `__init__.py` has nothing to say."""
    for source in sources:
        if source.is_below(*PACKAGES_DOCUMENTED) and source.tree.body and not ast.get_docstring(source.tree):
            message = "the module has no docstring: purpose, invariants, limits"
            yield Finding(path=source.path, line=1, rule="docstring", message=message)
