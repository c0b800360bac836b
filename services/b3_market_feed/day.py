"""One ticker's day as the public sees it: trades, candles, summary, phase, theoretical price.

Trades are numbered 1, 2, 3 … over the whole log; totals, high, low and candles are those of the running business day.
A busted trade leaves the totals and is marked; candles and extremes keep what was printed, as a tape does. Times are
session time. Limits: the newest TRADES_KEPT_MAX trades and CANDLES_KEPT_MAX candles are kept.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from mybroker.contracts.events import TheoreticalChanged, TradeExecuted
from mybroker.contracts.feed import Candle, MarketPhase, Ticker, Trade
from mybroker.domain.money import format_cents, format_ticks, notional_cents
from mybroker.domain.order import Aggressor, Side
from mybroker.domain.phase import CALL_PHASES, Phase
from mybroker.domain.schedule import format_instant
from services.b3_market_feed.book import TickerBook

TRADES_KEPT_MAX = 5_000
CANDLES_KEPT_MAX = 1_500
MINUTE_NS = 60_000_000_000


@dataclass(slots=True, kw_only=True)
class Bar:
    """One minute of trades, still growing."""

    start_ns: int
    open_ticks: int
    high_ticks: int
    low_ticks: int
    close_ticks: int
    volume_shares: int
    trades: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicTrade:
    """One trade as it is kept."""

    number: int
    trade_id: str
    price_ticks: int
    quantity_shares: int
    aggressor: Aggressor
    at_ns: int


class TickerDay:
    """Everything public about one ticker."""

    def __init__(self, ticker: str, market: str, shard: int) -> None:
        self.ticker = ticker
        self.market = market
        self.shard = shard
        self.book = TickerBook(ticker)
        self.book_loaded_seq = 0
        self.phase = Phase.CLOSED
        self.phase_at_ns = 0
        self.at_ns = 0
        self.reference_ticks: int | None = None
        self.theoretical: TheoreticalChanged | None = None
        self.trades: deque[PublicTrade] = deque(maxlen=TRADES_KEPT_MAX)
        self.last_ticks: int | None = None
        self._numbered = 0
        self._begin_day()

    def _begin_day(self) -> None:
        self.open_ticks: int | None = None
        self.high_ticks: int | None = None
        self.low_ticks: int | None = None
        self.day_trades = 0
        self.volume_shares = 0
        self.turnover_cents = 0
        self.bars: deque[Bar] = deque(maxlen=CANDLES_KEPT_MAX)

    def begin_day(self, reference_ticks: int | None) -> None:
        """A new business day: totals start at nothing, the last price stays."""
        self._begin_day()
        if reference_ticks is not None:
            self.reference_ticks = reference_ticks

    def trade(self, event: TradeExecuted, at_ns: int) -> PublicTrade:
        """Take a trade into tape, totals and its minute."""
        self._numbered += 1
        price, quantity = event.price_ticks, event.quantity_shares
        trade = PublicTrade(
            number=self._numbered,
            trade_id=event.trade_id,
            price_ticks=price,
            quantity_shares=quantity,
            aggressor=event.aggressor,
            at_ns=at_ns,
        )
        self.trades.append(trade)
        self.at_ns = at_ns
        self.last_ticks = price
        self.open_ticks = price if self.open_ticks is None else self.open_ticks
        self.high_ticks = price if self.high_ticks is None else max(self.high_ticks, price)
        self.low_ticks = price if self.low_ticks is None else min(self.low_ticks, price)
        self.day_trades += 1
        self.volume_shares += quantity
        self.turnover_cents += notional_cents(price, quantity)
        self._into_bar(price, quantity, at_ns - at_ns % MINUTE_NS)
        return trade

    def bust(self, price_ticks: int, quantity_shares: int) -> None:
        """Take a busted trade out of the day's totals."""
        self.day_trades -= 1
        self.volume_shares -= quantity_shares
        self.turnover_cents -= notional_cents(price_ticks, quantity_shares)

    def enter(self, phase: Phase, at_ns: int) -> None:
        """Enter a phase; a theoretical price does not outlive its call."""
        self.phase = phase
        self.phase_at_ns = self.at_ns = at_ns
        if phase not in CALL_PHASES:
            self.theoretical = None

    def _into_bar(self, price: int, quantity: int, start_ns: int) -> None:
        bar = self.bars[-1] if self.bars else None
        if bar is None or bar.start_ns != start_ns:
            self.bars.append(
                Bar(
                    start_ns=start_ns,
                    open_ticks=price,
                    high_ticks=price,
                    low_ticks=price,
                    close_ticks=price,
                    volume_shares=quantity,
                    trades=1,
                )
            )
            return
        bar.high_ticks = max(bar.high_ticks, price)
        bar.low_ticks = min(bar.low_ticks, price)
        bar.close_ticks = price
        bar.volume_shares += quantity
        bar.trades += 1

    def trades_after(self, number: int, limit: int) -> list[Trade]:
        """Return kept trades above a number, oldest first, at most `limit`."""
        newer = [trade for trade in self.trades if trade.number > number]
        return self._shown(newer[:limit])

    def newest_trades(self, limit: int) -> list[Trade]:
        """Return the newest trades, oldest first."""
        return self._shown(list(self.trades)[-limit:] if limit > 0 else [])

    def _shown(self, trades: Iterable[PublicTrade]) -> list[Trade]:
        return [self.show_trade(trade) for trade in trades]

    def show_trade(self, trade: PublicTrade) -> Trade:
        """Return a trade as the feed sends it."""
        return Trade(
            ticker=self.ticker,
            number=trade.number,
            trade_id=trade.trade_id,
            price=format_ticks(trade.price_ticks),
            quantity=trade.quantity_shares,
            aggressor=trade.aggressor,
            at=format_instant(trade.at_ns),
        )

    def show_phase(self) -> MarketPhase:
        """Return the phase, with the theoretical price where there is one."""
        theoretical = self.theoretical
        return MarketPhase(
            ticker=self.ticker,
            market=self.market,
            phase=self.phase,
            at=format_instant(self.phase_at_ns),
            theoretical_price=_text(theoretical.price_ticks) if theoretical else None,
            theoretical_quantity=theoretical.quantity_shares if theoretical else 0,
            imbalance=theoretical.imbalance_shares if theoretical else 0,
            imbalance_side=theoretical.imbalance_side if theoretical else None,
        )

    def show_quote(self) -> Ticker:
        """Return the summary of book and trades."""
        return Ticker(
            ticker=self.ticker,
            last=_text(self.last_ticks),
            bid=_text(self.book.best(Side.BUY)),
            ask=_text(self.book.best(Side.SELL)),
            open=_text(self.open_ticks),
            high=_text(self.high_ticks),
            low=_text(self.low_ticks),
            reference=_text(self.reference_ticks),
            trades=self.day_trades,
            volume=self.volume_shares,
            turnover=format_cents(self.turnover_cents),
            phase=self.phase,
            at=format_instant(self.at_ns),
        )

    def show_candle(self, bar: Bar) -> Candle:
        """Return one minute as the feed sends it."""
        return Candle(
            ticker=self.ticker,
            start=format_instant(bar.start_ns),
            open=format_ticks(bar.open_ticks),
            high=format_ticks(bar.high_ticks),
            low=format_ticks(bar.low_ticks),
            close=format_ticks(bar.close_ticks),
            volume=bar.volume_shares,
            trades=bar.trades,
        )


def _text(price_ticks: int | None) -> str | None:
    return None if price_ticks is None else format_ticks(price_ticks)
