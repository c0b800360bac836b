"""The refusal matrix, cell by cell: this table is written by hand, the document is written by the engine."""

from __future__ import annotations

import pytest

from mybroker.domain.phase import Phase
from services.b3_matcher import refusals
from services.b3_matcher.refusals import AMENDMENTS, KINDS, PHASES, Cell, document, matrix

WORDS = {
    "yes": None,
    "type": "order_type_not_allowed_in_phase",
    "tif": "time_in_force_not_allowed_in_phase",
    "none": "no_opposite_price",
    "only": "cancel_only",
    "halt": "instrument_halted",
    "shut": "market_closed",
    "lock": "locked_in_auction",
    "late": "too_late",
    "never": "time_in_force_not_supported",
}

# Sources: the exchange's page (orders, phases, locks); facts 1.5 (entry of stops in an auction) and 1.2 (locks).
TABLE = """
                           | pre   open  auct  call  after canc  halt  closed
limit day                  | yes   yes   yes   yes   yes   only  halt  shut
limit gtc                  | yes   yes   yes   yes   yes   only  halt  shut
limit gtd                  | yes   yes   yes   yes   yes   only  halt  shut
limit ioc                  | tif   yes   tif   tif   yes   only  halt  shut
limit fok                  | tif   yes   tif   tif   yes   only  halt  shut
limit at_the_close         | yes   yes   yes   yes   yes   only  halt  shut
limit good_for_auction     | yes   yes   yes   yes   yes   only  halt  shut
limit, display_quantity    | yes   yes   yes   yes   yes   only  halt  shut
limit, min_quantity        | type  yes   type  type  yes   only  halt  shut
market day                 | yes   yes   yes   yes   yes   only  halt  shut
market ioc                 | tif   yes   tif   tif   yes   only  halt  shut
market fok                 | tif   yes   tif   tif   yes   only  halt  shut
market at_the_close        | yes   yes   yes   yes   yes   only  halt  shut
market good_for_auction    | yes   yes   yes   yes   yes   only  halt  shut
market, nothing opposite   | yes   none  yes   yes   none  only  halt  shut
stop day                   | type  yes   type  type  yes   only  halt  shut
stop gtc                   | type  yes   type  type  yes   only  halt  shut
stop ioc                   | never never never never never never never never
stop_limit day             | type  yes   type  type  yes   only  halt  shut
stop_limit gtd             | type  yes   type  type  yes   only  halt  shut
cancel                     | yes   yes   yes   yes   yes   yes   yes   shut
cancel, locked             | lock  yes   lock  lock  yes   yes   yes   shut
replace to more            | yes   yes   yes   yes   yes   only  halt  shut
replace to less, locked    | lock  yes   lock  lock  yes   only  halt  shut
replace of a filled order  | late  late  late  late  late  late  late  late
"""


def _rows() -> list[tuple[str, Phase, str | None]]:
    rows = []
    for text in TABLE.strip().splitlines()[1:]:
        asked, answers = text.split("|")
        rows += [(asked.strip(), phase, WORDS[word]) for phase, word in zip(PHASES, answers.split(), strict=True)]
    return rows


@pytest.fixture(scope="module")
def cells() -> dict[tuple[str, Phase], Cell]:
    return {(cell.asked, cell.phase): cell for cell in matrix()}


@pytest.mark.parametrize(("asked", "phase", "answer"), _rows())
def test_a_cell(cells: dict[tuple[str, Phase], Cell], asked: str, phase: Phase, answer: str | None):
    assert cells[asked, phase].reason == answer


def test_the_table_has_every_cell_and_no_other(cells: dict[tuple[str, Phase], Cell]):
    assert [(asked, phase) for asked, phase, _ in _rows()] == list(cells)
    assert {asked for asked, _ in cells} == {*KINDS, *AMENDMENTS}
    assert set(PHASES) == set(Phase)


def test_the_document_is_what_the_engine_says():
    assert refusals.DOCUMENT.read_text(encoding="utf-8") == document(), "python -m services.b3_matcher.refusals"


def test_the_check_sees_a_stale_document(tmp_path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(refusals, "DOCUMENT", tmp_path / "refusals.md")
    assert refusals.main(["--check"]) == 1
    assert "stale" in capsys.readouterr().err
    assert refusals.main([]) == 0
    assert refusals.main(["--check"]) == 0
    (tmp_path / "refusals.md").write_text("yes")
    assert refusals.main(["--check"]) == 1
