"""Small rooms: a function has at most 70 lines, a module at most 500.

Offenders stand in tools/house/ratchet.json with their size. A size there may only shrink: larger than written is a
finding, and so is smaller, until the file says the new size (`python -m tools.house --tighten` writes it).
"""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

from tools.house.source import Finding, Source

FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 500
RATCHET = Path(__file__).with_name("ratchet.json")


def sizes(source: Source) -> Iterator[tuple[str, int, int, int]]:
    """Each measured thing: its key, its first line, its length, the limit."""
    yield source.path, 1, len(source.text.splitlines()), MODULE_LINES_MAX
    yield from functions(source.path, source.tree)


def functions(prefix: str, node: ast.AST) -> Iterator[tuple[str, int, int, int]]:
    """Every function below `node`, by qualified name; its docstring counts, its decorators do not."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            key = f"{prefix}::{child.name}"
            assert child.end_lineno is not None, "a parsed function ends somewhere"
            yield key, child.lineno, child.end_lineno - child.lineno + 1, FUNCTION_LINES_MAX
            yield from functions(key, child)
        elif isinstance(child, ast.ClassDef):
            yield from functions(f"{prefix}::{child.name}", child)
        else:
            yield from functions(prefix, child)


def check_sizes(sources: list[Source], ratchet: dict[str, int]) -> Iterator[Finding]:
    """Yield what is too large, and what the ratchet says wrongly."""
    seen: set[str] = set()
    for source in sources:
        for key, line, length, limit in sizes(source):
            allowed = ratchet.get(key)
            if allowed is not None:
                seen.add(key)
            if length > max(limit, allowed or 0):
                message = f"{key} has {length} lines, at most {allowed or limit} are allowed"
                yield Finding(path=source.path, line=line, rule="size", message=message)
            elif allowed is not None and length < allowed:
                message = f"{key} shrank to {length} lines: tighten the ratchet from {allowed}"
                yield Finding(path=source.path, line=line, rule="size", message=message)
    for key in sorted(set(ratchet) - seen):
        yield Finding(path=RATCHET.name, line=1, rule="size", message=f"{key} is gone: tighten the ratchet")


def tightened(sources: list[Source], ratchet: dict[str, int]) -> dict[str, int]:
    """The ratchet with every entry at today's size where that is smaller, and without what is no offender any more."""
    measured = {key: (length, limit) for source in sources for key, _, length, limit in sizes(source)}
    kept = {key: min(allowed, measured[key][0]) for key, allowed in ratchet.items() if key in measured}
    return {key: length for key, length in sorted(kept.items()) if length > measured[key][1]}


def read_ratchet() -> dict[str, int]:
    """Read the offenders and their sizes."""
    content: dict[str, int] = json.loads(RATCHET.read_text())
    return content


def write_ratchet(ratchet: dict[str, int]) -> None:
    """Write the offenders and their sizes."""
    RATCHET.write_text(json.dumps(ratchet, indent=2, sort_keys=True) + "\n")
