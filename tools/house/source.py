"""The files the rules look at, each read and parsed once, and what a rule says about them."""

import ast
import subprocess
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One broken rule at one place."""

    path: str
    line: int
    rule: str
    message: str

    def __str__(self) -> str:
        """Write it as editors and people expect it."""
        return f"{self.path}:{self.line}: {self.rule}: {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One Python file."""

    path: str
    text: str
    tree: ast.Module

    @classmethod
    def parse(cls, path: str, text: str) -> "Source":
        """Parse `text` as the file at `path`, relative to the repository."""
        return cls(path=path, text=text, tree=ast.parse(text, filename=path))

    @property
    def module(self) -> str:
        """Dotted name: `mybroker/plan/__init__.py` is `mybroker.plan`."""
        parts = PurePosixPath(self.path).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def is_below(self, *packages: str) -> bool:
        """Say whether this module is one of `packages` or lies in one."""
        return any(self.module == package or self.module.startswith(package + ".") for package in packages)


def listed_files(root: Path) -> list[str]:
    """Paths of all files git tracks or would track, sorted; those on disk only."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    return sorted(path for path in set(listing.split("\0")) if path and (root / path).is_file())


def read_sources(root: Path, paths: list[str]) -> list[Source]:
    """Parse the Python files among `paths`."""
    return [Source.parse(path, (root / path).read_text()) for path in paths if path.endswith(".py")]
