"""The pages keep their shape and name only what exists."""

import re

import pytest

from tools.check import ROOT

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
OUR_PATH = re.compile(r"`((?:bench|docs|k8s|mybroker|services|tests|tools|web)/[\w./-]*[\w/])`")
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_names_only_files_that_exist(page):
    text = page.read_text()
    missing = [path for path in OUR_PATH.findall(text) if not (ROOT / path).exists()]
    missing += [link for link in LINK.findall(text) if not (page.parent / link).exists()]

    assert missing == []


def test_the_glossary_is_sorted_and_says_each_word_once():
    rows = (ROOT / "docs" / "glossary.md").read_text().split("|---|---|\n")[1].strip().splitlines()
    words = [row.split("|")[1].strip() for row in rows]

    assert len(words) > 50
    assert words == sorted(set(words), key=str.lower)


def test_every_decision_is_listed_and_has_its_parts():
    folder = ROOT / "docs" / "adr"
    listed = (folder / "README.md").read_text()
    for page in sorted(folder.glob("0*.md")):
        text = page.read_text()
        assert f"]({page.name})" in listed, page.name
        assert text.startswith(f"# ADR-{page.name[:4]}: "), page.name
        for part in ("## Why it came up", "## What we do", "## What follows", "## What we did not do"):
            assert part in text, (page.name, part)
