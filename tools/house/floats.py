"""No float where money, prices and quantities live: not as an annotation, a literal, a call or a true division."""

import ast
from collections.abc import Iterator

from tools.house.source import Finding, Source

PACKAGES_WITHOUT_FLOAT = (
    "mybroker.domain",
    "mybroker.contracts",
    "services.b3_matcher.engine",
    "services.broker_wallet.ledger",
)


def check_floats(sources: list[Source]) -> Iterator[Finding]:
    """Yield every float in the packages that must not know one."""
    for source in sources:
        if not source.is_below(*PACKAGES_WITHOUT_FLOAT):
            continue
        for node in ast.walk(source.tree):
            what = float_in(node)
            if what is not None:
                message = f"{what}: use integer cents, ticks, shares or nanoseconds"
                yield Finding(path=source.path, line=getattr(node, "lineno", 1), rule="float", message=message)


def float_in(node: ast.AST) -> str | None:
    """What is float-like about one node, if anything."""
    match node:
        case ast.Name(id="float"):
            return "`float`"
        case ast.Constant(value=float() as literal):
            return f"the literal {literal}"
        case ast.BinOp(op=ast.Div(), right=ast.Constant(value=str()) | ast.JoinedStr()):
            return None  # joins a path
        case ast.BinOp(op=ast.Div()) | ast.AugAssign(op=ast.Div()):
            return "`/` gives a float (paths: joinpath)"
        case _:
            return None
