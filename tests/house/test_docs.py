"""The glossary is sorted and says each word once."""

from tools.check import ROOT


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
