"""The public view: books, tapes, candles and phases from frames."""

import pytest

from mybroker.contracts.events import DayClosed, PhaseChanged, SessionConfigured, TradeBusted
from mybroker.contracts.feed import TradeBust
from mybroker.domain.order import Side
from mybroker.domain.phase import Phase
from mybroker.runtime.frames import FramePosition, SequenceGap
from services.b3_market_feed.book import BookGap, TickerBook
from services.b3_market_feed.market_view import MarketView
from services.b3_market_feed.reading import history
from tests.feed.made_up_market import LOG_ID, FrameMaker, levels_of

SEEDS = range(10)


def viewed(frames):
    view = MarketView()
    shard = view.shard("equities", 0)
    for frame in frames:
        view.apply(shard, frame)
    return view


@pytest.mark.parametrize("seed", SEEDS)
def test_after_every_frame_the_book_is_the_sum_of_its_orders(seed):
    maker = FrameMaker(seed)
    view = viewed(maker.frames)
    shard = view.shard("equities", 0)
    for _ in range(300):
        view.apply(shard, maker.step())
        for ticker in maker.tickers:
            if ticker in view.days:
                assert levels_of(view.days[ticker].book.snapshot()) == maker.naive_levels(ticker), f"seed {seed}"


def test_levels_stand_best_first_and_market_orders_before_all():
    maker = FrameMaker(0)
    book = TickerBook("PETR4")
    for entry, (side, price) in enumerate(
        [(Side.BUY, 2990), (Side.BUY, 2999), (Side.BUY, None), (Side.SELL, 3005), (Side.SELL, 3001), (Side.SELL, None)]
    ):
        book.apply(maker.entry("PETR4", entry, side, price, 100))

    shown = book.snapshot()
    assert [level[0] for level in shown.bids] == ["market", "29.99", "29.90"]
    assert [level[0] for level in shown.asks] == ["market", "30.01", "30.05"]
    assert (book.best(Side.BUY), book.best(Side.SELL)) == (2999, 3001)
    assert [level[0] for level in book.snapshot(depth=1).bids] == ["market"]


def test_a_book_event_heard_twice_changes_nothing_and_a_missing_one_is_a_gap():
    maker = FrameMaker(0)
    book = TickerBook("PETR4")
    first = maker.entry("PETR4", 1, Side.BUY, 3000, 100)
    assert book.apply(first)
    assert not book.apply(first)
    maker.entry("PETR4", 2, Side.BUY, 3000, 100)
    with pytest.raises(BookGap, match="expected book event 2, was 3"):
        book.apply(maker.entry("PETR4", 3, Side.BUY, 3000, 100))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_start_from_book_records_ends_with_the_view_of_one_that_read_everything(seed):
    maker = FrameMaker(seed)
    records = {}
    for number in range(400):
        maker.step()
        if number in (150, 300):  # PETR4's record is older than VALE3's
            ticker = maker.tickers[number == 300]
            records[ticker] = maker.record(ticker)

    late = MarketView()
    shard = late.shard("equities", 0)
    for record in records.values():
        late.load(shard, record)
    position = FramePosition(log_id=LOG_ID, seq=min(record.seq for record in records.values()))
    repeated = maker.values()[:40] + maker.values()[20:]  # the log stepped backwards once
    scanned = 0
    for chunk in history("log", repeated, position):
        for frame in chunk:
            late.apply(shard, frame)
            scanned += 1
    for frame in maker.frames[position.seq :]:
        late.apply(shard, frame)

    early = viewed(maker.frames)
    assert scanned < position.seq, "frames that change only books are skipped"
    for ticker in maker.tickers:
        one, other = late.days[ticker], early.days[ticker]
        assert one.book.snapshot() == other.book.snapshot(), f"seed {seed}"
        assert one.newest_trades(5_000) == other.newest_trades(5_000)
        assert one.show_phase() == other.show_phase()
        assert [one.show_candle(bar) for bar in one.bars] == [other.show_candle(bar) for bar in other.bars]


def test_a_missing_frame_in_the_history_is_a_gap():
    maker = FrameMaker(1)
    for _ in range(30):
        maker.step()
    values = maker.values()
    del values[10]
    with pytest.raises(SequenceGap, match="expected seq 11, was 12"):
        list(history("log", values, FramePosition(log_id=LOG_ID, seq=30)))


@pytest.mark.parametrize("seed", SEEDS)
def test_candles_and_totals_add_up_to_the_trades(seed):
    maker = FrameMaker(seed)
    for _ in range(500):
        maker.step()
    day = viewed(maker.frames).days["PETR4"]
    trades = maker.trades["PETR4"]
    quote = day.show_quote()

    assert quote.trades == sum(bar.trades for bar in day.bars) == len(trades)
    assert quote.volume == sum(bar.volume_shares for bar in day.bars) == sum(trade[2] for trade in trades)
    assert day.turnover_cents == sum(price * quantity for _, price, quantity in trades)
    assert (day.low_ticks, day.high_ticks) == (min(t[1] for t in trades), max(t[1] for t in trades))
    assert [bar.start_ns for bar in day.bars] == sorted({bar.start_ns for bar in day.bars})
    assert [trade.number for trade in day.trades] == [trade[0] for trade in trades]


def test_a_busted_trade_leaves_the_totals():
    maker = FrameMaker(0)
    trade = maker.trade("PETR4", 3000, 200)
    maker.emit(trade)
    busted = TradeBusted(
        trade_id=trade.trade_id,
        ticker="PETR4",
        price_ticks=3000,
        quantity_shares=200,
        buy=trade.buy.order,
        sell=trade.sell.order,
    )
    view = viewed(maker.frames)
    printed = view.apply(view.shard("equities", 0), maker.emit(busted))

    assert printed == [TradeBust(ticker="PETR4", trade_id=trade.trade_id)]
    assert (view.days["PETR4"].volume_shares, view.days["PETR4"].show_quote().turnover) == (0, "0.00")


def phase(ticker, to):
    return PhaseChanged(ticker=ticker, phase=to)


@pytest.mark.parametrize(
    ("changes", "petr4", "vale3"),
    [
        ([], Phase.OPEN, Phase.OPEN),
        ([phase("PETR4", Phase.HALTED)], Phase.HALTED, Phase.OPEN),
        ([phase("PETR4", Phase.HALTED), phase(None, Phase.CLOSING_CALL)], Phase.HALTED, Phase.CLOSING_CALL),
        ([phase("PETR4", Phase.HALTED), phase(None, Phase.CLOSED)], Phase.CLOSED, Phase.CLOSED),
        (
            [phase("PETR4", Phase.HALTED), phase("PETR4", Phase.OPEN), phase(None, Phase.CLOSING_CALL)],
            Phase.CLOSING_CALL,
            Phase.CLOSING_CALL,
        ),
    ],
)
def test_an_instrument_apart_follows_the_market_again_by_its_own_event(changes, petr4, vale3):
    maker = FrameMaker(0)
    for change in changes:
        maker.emit(change)
    days = viewed(maker.frames).days
    assert (days["PETR4"].phase, days["VALE3"].phase) == (petr4, vale3)


def test_a_new_day_begins_at_the_closing_price_and_goes_on_numbering_trades():
    maker = FrameMaker(0)
    maker.emit(maker.trade("PETR4", 3000, 100))
    closed = DayClosed(
        ticker="PETR4",
        business_date="2026-11-23",
        closing_price_ticks=3000,
        trades=1,
        volume_shares=100,
        turnover_cents=300_000,
    )
    maker.emit(closed)
    maker.emit(SessionConfigured(revision=2, business_date="2026-11-24", tickers=maker.tickers))
    view = viewed(maker.frames)
    quote = view.days["PETR4"].show_quote()
    assert (quote.trades, quote.volume, quote.open, quote.reference, quote.last) == (0, 0, None, "30.00", "30.00")

    (trade,) = view.apply(view.shard("equities", 0), maker.emit(maker.trade("PETR4", 3010, 100)))
    assert trade.number == 2
