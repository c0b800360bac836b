"""Runs every house rule over the repository; prints each finding and exits 1 when there is one.

`--tighten` first lowers the ratchet of tools/house/sizes.py to today's sizes; it never raises one.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from tools.house.dependencies import check_dependencies, declared, distributions
from tools.house.floats import check_floats
from tools.house.names import check_docstrings, check_names
from tools.house.purity import check_purity, check_services_seen
from tools.house.sizes import check_sizes, read_ratchet, tightened, write_ratchet
from tools.house.source import Finding, Source, listed_files, read_sources
from tools.house.strangers import check_strangers

ROOT = Path(__file__).resolve().parent.parent.parent


def findings(root: Path, paths: list[str], sources: list[Source]) -> Iterator[Finding]:
    """Yield what any rule has to say."""
    runtime, development = declared(root / "pyproject.toml")
    yield from check_sizes(sources, read_ratchet())
    yield from check_names(sources)
    yield from check_docstrings(sources)
    yield from check_floats(sources)
    yield from check_purity(sources)
    yield from check_services_seen(sources)
    yield from check_dependencies(sources, runtime, development, distributions())
    yield from check_strangers(root, paths)


def main(arguments: list[str]) -> int:
    """Check the repository this file is in."""
    paths = listed_files(ROOT)
    sources = read_sources(ROOT, paths)
    if "--tighten" in arguments:
        write_ratchet(tightened(sources, read_ratchet()))
    found = sorted(findings(ROOT, paths, sources), key=lambda finding: (finding.path, finding.line, finding.rule))
    for finding in found:
        print(finding)
    print(f"house rules: {len(sources)} modules, {len(paths)} files, {len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
