"""Reading a MarketSession from YAML text or a file.

The reader takes YAML 1.2's plain scalars: a date stays text, "09:45" is not a number in base sixty, `on` and `no` are
words. A key given twice is a mistake, not a silent winner. The YAML library is imported when first needed.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from mybroker.contracts.manifest import parse_manifest
from mybroker.contracts.manifest_fields import SpecError, spec_error
from mybroker.contracts.market_session import MarketSession
from mybroker.domain.calendar import B3, Calendar

MANIFEST_BYTES_MAX = 1_000_000


def parse_yaml(text: str, *, now_ns: int, calendar: Calendar = B3) -> MarketSession | tuple[SpecError, ...]:
    """Read one YAML document; text that is no YAML is one mistake with its line and column."""
    if len(text) > MANIFEST_BYTES_MAX:
        return (spec_error("manifest", f"at most {MANIFEST_BYTES_MAX} characters", len(text)),)
    loaded = _loaded(text)
    if isinstance(loaded, SpecError):
        return (loaded,)
    if len(loaded) != 1 or not isinstance(loaded[0], dict):
        given = f"{len(loaded)} documents" if len(loaded) != 1 else type(loaded[0]).__name__
        return (SpecError(path="manifest", expected="one MarketSession as a YAML mapping", given=given),)
    return parse_manifest(loaded[0], now_ns=now_ns, calendar=calendar)


def load_manifest(path: Path, *, now_ns: int, calendar: Calendar = B3) -> MarketSession | tuple[SpecError, ...]:
    """Read a manifest file; `ingestors.file` becomes absolute, taken from the manifest's own folder."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return (SpecError(path=str(path), expected="a readable file in UTF-8", given=str(error)),)
    read = parse_yaml(text, now_ns=now_ns, calendar=calendar)
    if not isinstance(read, MarketSession) or read.spec.ingestors.file is None:
        return read
    file = path.parent.joinpath(read.spec.ingestors.file).resolve()
    ingestors = replace(read.spec.ingestors, file=str(file))
    return replace(read, spec=replace(read.spec, ingestors=ingestors))


def _loaded(text: str) -> list[Any] | SpecError:
    import yaml

    try:
        return list(yaml.load_all(text, Loader=_loader()))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        path = f"line {mark.line + 1} column {mark.column + 1}" if mark else "manifest"
        return SpecError(path=path, expected="YAML", given=str(getattr(error, "problem", None) or error))


@cache
def _loader() -> type[Any]:
    import yaml

    class ManifestLoader(yaml.SafeLoader):
        """SafeLoader with the scalars of YAML 1.2's core schema, and no key twice."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            seen: set[str] = set()
            for key, _ in node.value:
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} twice", key.start_mark)
                seen.add(key.value)
            return super().construct_mapping(node, deep)

    ManifestLoader.yaml_implicit_resolvers = {}
    core = (
        ("tag:yaml.org,2002:bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
        ("tag:yaml.org,2002:int", r"^(?:0|-?[1-9][0-9]*)$", "-0123456789"),
        ("tag:yaml.org,2002:float", r"^-?[0-9]+\.[0-9]+(?:[eE][-+]?[0-9]+)?$", "-0123456789"),
        ("tag:yaml.org,2002:null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    )
    for tag, pattern, first in core:
        ManifestLoader.add_implicit_resolver(tag, re.compile(pattern), list(first))
    return ManifestLoader
