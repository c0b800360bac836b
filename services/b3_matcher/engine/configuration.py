"""The owner's commands: the log's start, takeovers and handovers, configuration, the first moment of a new day; busts.

A new business date closes the old day if that has not happened, forgets its trades, sets the reference (the given
one, else the close) and restates the orders that survived.
"""

from __future__ import annotations

from mybroker.contracts.commands import BustTrade, ConfigureSession, HandOver, LogStart, SessionConfig, TakeOver
from mybroker.contracts.events import HandedOver, OrderRestated, OwnerChanged, SessionConfigured, TradeBusted
from mybroker.domain.order import CancelReason
from mybroker.domain.phase import CALL_PHASES, Phase
from services.b3_matcher.engine import bands, trading
from services.b3_matcher.engine.guard import guarded
from services.b3_matcher.engine.items import Instrument
from services.b3_matcher.engine.phases import expire, ignore, move_market
from services.b3_matcher.engine.state import State


def log_start(state: State, command: LogStart) -> None:
    """Take the log's id; only the first record of a log can give it."""
    market = state.market
    if market.log_id or state.members or state.instruments or market.owner:
        ignore(state, "log_start", f"the log has begun as {market.log_id!r}")
        return
    state.touch(market)
    market.log_id = command.log_id


def take_over(state: State, command: TakeOver) -> None:
    """Let a matcher of the wanted engine version own the shard; the epoch is this record's offset."""
    market = state.market
    if command.engine_version != market.engine_version_wanted:
        ignore(
            state,
            "take_over",
            f"expected engine version {market.engine_version_wanted}, was {command.engine_version}",
        )
        return
    state.touch(market)
    market.owner = command.owner
    market.epoch = state.offset
    state.out.append(OwnerChanged(owner=command.owner, epoch=market.epoch, engine_version=command.engine_version))


def hand_over(state: State, command: HandOver) -> None:
    """Let only the next engine version take over from here."""
    market = state.market
    if command.epoch != market.epoch:
        ignore(state, "hand_over", f"expected epoch {market.epoch}, was {command.epoch}")
        return
    state.touch(market)
    market.engine_version_wanted = command.next_version
    state.out.append(HandedOver(next_version=command.next_version))


def configure(state: State, command: ConfigureSession) -> None:
    """Take instruments, schedule and rules; a new business date begins a new day."""
    market = state.market
    if command.epoch != market.epoch:
        ignore(state, "configure", f"expected epoch {market.epoch}, was {command.epoch}")
        return
    if command.revision <= market.revision:
        ignore(state, "configure", f"expected a revision after {market.revision}, was {command.revision}")
        return
    config = command.config
    before = market.config
    new_day = before is None or before.business_date != config.business_date
    if before is not None and new_day:
        # Also where it is closed: calls extended beyond the close end now, and so does a circuit breaker's halt.
        move_market(state, command, phase=Phase.CLOSED, halted=market.halted and not market.circuit_breaker_halts)
    state.mark()
    state.touch(market)
    market.revision = command.revision
    market.config = config
    state.rules = config.rules
    if new_day:
        market.day_over = False
        market.circuit_breaker_level = market.index_number = 0
    _list_instruments(state, command, new_day=new_day and before is not None)
    state.out.append(
        SessionConfigured(
            revision=command.revision,
            business_date=config.business_date,
            tickers=tuple(instrument.ticker for instrument in config.instruments),
        )
    )
    if new_day:
        _catch_up(state, command, config)


def _catch_up(state: State, command: ConfigureSession, config: SessionConfig) -> None:
    """Enter the phases that a late first configuration of a day would have met already."""
    passed = [change for change in config.schedule if change.at_ns <= state.market.now_ns]
    for change in sorted(passed, key=lambda change: change.at_ns):
        move_market(state, command, phase=change.phase, halted=state.market.halted)


def _list_instruments(state: State, command: ConfigureSession, *, new_day: bool) -> None:
    config = command.config
    wanted = {instrument.ticker for instrument in config.instruments}
    for instrument in list(state.instruments.values()):
        if instrument.listed and instrument.ticker not in wanted:
            guarded(state, instrument, command, delist)
    for wish in config.instruments:
        known = state.instruments.get(wish.ticker)
        if known is None:
            instrument = Instrument(wish, config.rules)
            instrument.day = config.business_date
            instrument.phase = state.market.effective_phase
            instrument.call_pending = instrument.phase in CALL_PHASES
            state.list_instrument(instrument)
            bands.tell(state, instrument)
            continue
        state.touch(known)
        known.configure(wish, config.rules)
        known.listed = True
        if new_day:
            guarded(state, known, command, begin_day, config.business_date)
        elif wish.reference_price_ticks is not None:
            known.reference = wish.reference_price_ticks


def delist(state: State, instrument: Instrument) -> None:
    """Take an instrument off the market, with its orders."""
    for order in instrument.live():
        trading.cancel_rest(state, order, CancelReason.SUPERVISOR)
    instrument.listed = False


def begin_day(state: State, instrument: Instrument, business_date: str) -> None:
    """Begin an instrument's new day: a fresh reference, no trades; orders are restated or, past their date, expire."""
    given = instrument.config.reference_price_ticks
    instrument.reference = instrument.closing_price if given is None else given
    instrument.last_price = instrument.config.last_price_ticks
    instrument.day, instrument.day_closed = business_date, False
    instrument.official_close = None
    instrument.static_step = 0
    instrument.recent = ()
    instrument.recent_value = instrument.recent_shares = 0
    instrument.day_trades = instrument.day_shares = instrument.day_cents = 0
    instrument.day_open = instrument.day_high = instrument.day_low = None
    for trade in instrument.trades.values():
        state.touch(trade)
        trade.dropped = True
    instrument.trades = {}
    for order in instrument.live():
        if order.expires is not None and order.expires < business_date:
            expire(state, order)
            continue
        state.out.append(
            OrderRestated(order=state.reference(order), ticker=instrument.ticker, leaves_shares=order.leaves)
        )
    bands.tell(state, instrument)


def bust(state: State, command: BustTrade) -> None:
    """Declare a trade of this day void; both sides are told, prices and orders stay as they are."""
    for instrument in state.instruments.values():
        trade = instrument.trades.get(command.trade_id)
        if trade is not None:
            break
    else:
        ignore(state, "bust", f"trade {command.trade_id} is unknown today")
        return
    if trade.busted:
        ignore(state, "bust", f"trade {command.trade_id} is void already")
        return
    state.touch(instrument)
    state.touch(trade)
    trade.busted = True
    instrument.day_trades -= 1
    instrument.day_shares -= trade.quantity_shares
    instrument.day_cents -= trade.price_ticks * trade.quantity_shares
    buy = state.members[trade.buy[0]].orders[trade.buy[1]]
    sell = state.members[trade.sell[0]].orders[trade.sell[1]]
    state.out.append(
        TradeBusted(
            trade_id=trade.trade_id,
            ticker=instrument.ticker,
            price_ticks=trade.price_ticks,
            quantity_shares=trade.quantity_shares,
            buy=state.reference(buy),
            sell=state.reference(sell),
        )
    )
