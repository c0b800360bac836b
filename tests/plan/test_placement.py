"""Which shard a ticker trades in: it never moves, and new ones fill the emptiest."""

from __future__ import annotations

import pytest

from mybroker.plan.markets import assign_shards


@pytest.mark.parametrize(
    ("tickers", "shards", "known", "placed"),
    [
        ("A B C", 1, {}, ["A B C"]),
        ("A B C", 2, {}, ["A C", "B"]),
        ("A B C D", 3, {}, ["A D", "B", "C"]),
        ("A B C D", 2, {"A": 1, "B": 1}, ["C D", "A B"]),
        ("A B C D", 3, {"A": 0, "B": 1, "C": 0}, ["A C", "B", "D"]),
        ("C B A", 2, {"A": 0, "B": 1, "C": 0}, ["C A", "B"]),
        ("B", 2, {"A": 0, "B": 1}, ["", "B"]),
    ],
)
def test_a_ticker_stays_and_a_new_one_goes_to_the_emptiest_shard(
    tickers: str, shards: int, known: dict[str, int], placed: list[str]
) -> None:
    assert [" ".join(shard) for shard in assign_shards(tickers.split(), shards, known)] == placed


def test_placing_again_moves_nothing() -> None:
    tickers = [f"T{number}" for number in range(40)]
    first = assign_shards(tickers, 3, {})
    known = {ticker: shard for shard, held in enumerate(first) for ticker in held}
    assert assign_shards(tickers, 3, known) == first
    assert sorted(len(held) for held in first) == [13, 13, 14]
