"""Participants' commands: orders, logon, disconnect, and what makes them safe to hear twice.

Idempotency first: a revision heard before is answered by one `DuplicateIgnored`. An unnumbered command (a tape) is
always fresh, except a new order whose id is known. A cancel of an unknown id bars the id for ever, so that a sender
in doubt can settle it; a numbered replace of an unknown id does the same, an unnumbered one leaves the id alone.
"""

from __future__ import annotations

from mybroker.contracts.commands import CancelOrder, Disconnect, Logon, MassCancel, PlaceOrder, ReplaceOrder
from mybroker.contracts.events import (
    CancelRejected,
    CommandIgnored,
    Disconnected,
    DuplicateIgnored,
    LoggedOn,
    MassCancelled,
    OrderAccepted,
    OrderCancelled,
    OrderRejected,
    OrderReplaced,
    ReplaceRejected,
)
from mybroker.domain.order import CancelReason, TimeInForce
from mybroker.domain.phase import CALL_PHASES, CONTINUOUS_PHASES, PHASES_THAT_ACCEPT_CANCELS
from mybroker.domain.refusal import RejectReason
from services.b3_matcher.engine import admission, continuous, trading
from services.b3_matcher.engine.guard import guarded
from services.b3_matcher.engine.items import ENDED, RESTING, TRIGGERED, Ended, Instrument, Member, Order
from services.b3_matcher.engine.state import State

_FOK = TimeInForce.FOK
_USER = CancelReason.USER
_KEPT_ON_DISCONNECT = frozenset({TimeInForce.GTC, TimeInForce.GTD})


def place(state: State, command: PlaceOrder) -> None:
    """Take a new order, or refuse it."""
    member = state.member(command.participant)
    known = member.orders.get(command.order_id)
    if known is not None:
        _place_known(state, command, known)
        return
    reason = admission.refusal_of_new(state, command, member)
    if reason is not None:
        refused = Ended(
            member=member,
            order_id=command.order_id,
            account=command.account,
            ticker=command.ticker,
            revision=command.revision or 0,
        )
        state.know(refused)
        state.out.append(OrderRejected(order=state.reference(refused), ticker=command.ticker, reason=reason))
        return

    # From here the order is accepted.
    instrument = state.instruments[command.ticker]
    order = Order(
        member=member,
        instrument=instrument,
        order_id=command.order_id,
        account=command.account,
        side=command.side,
        type=command.type,
        tif=command.time_in_force,
        price=command.price_ticks,
        quantity=command.quantity_shares,
        protection=command.protection_price_ticks,
        stp=state.rules.stp if command.self_trade_prevention is None else command.self_trade_prevention,
        expires=command.expires,
        revision=command.revision or 0,
        stop=command.stop_price_ticks,
        display=command.display_quantity_shares,
    )
    state.know(order)
    state.touch(instrument)
    state.out.append(
        OrderAccepted(
            order=state.reference(order),
            ticker=command.ticker,
            side=command.side,
            type=command.type,
            time_in_force=command.time_in_force,
            price_ticks=command.price_ticks,
            quantity_shares=command.quantity_shares,
        )
    )
    _enter(state, instrument, order, command.min_quantity_shares)


def _place_known(state: State, command: PlaceOrder, known: Order | Ended) -> None:
    barred = isinstance(known, Ended) and known.barred
    revision = command.revision
    heard = revision is None if not barred else False
    if revision is not None:
        heard = revision < known.revision if barred else revision <= known.revision
    if heard:
        _duplicate(state, command)
        return
    if revision is not None:
        state.touch(known)
        known.revision = revision
    reason = RejectReason.ID_BARRED if barred else RejectReason.CLIENT_ORDER_ID_CONFLICT
    state.out.append(OrderRejected(order=state.reference(known), ticker=command.ticker, reason=reason))


def _enter(state: State, instrument: Instrument, order: Order, min_quantity: int | None) -> None:
    """Give an accepted order its place: traded, in the book, or waiting for its auction."""
    if admission.waits_for_auction(order.tif, instrument.phase):
        trading.park(state, order)
        return
    if order.stop is not None:
        trading.wait_for_stop(state, order)
        return
    if instrument.phase in CALL_PHASES:
        trading.rest(state, order)
        trading.update_theoretical(state, instrument)
        return
    if order.tif is _FOK and continuous.fillable_shares(state, order) < order.quantity:
        trading.cancel_rest(state, order, CancelReason.FOK)
        return
    if min_quantity is not None and continuous.fillable_shares(state, order) < min_quantity:
        trading.cancel_rest(state, order, CancelReason.MIN_QUANTITY)
        return
    continuous.trade_and_settle_the_rest(state, order)


def cancel(state: State, command: CancelOrder) -> None:
    """Cancel what is left of an order, or refuse."""
    member = state.member(command.participant)
    known = member.orders.get(command.order_id)
    if known is None:
        barred = _bar(state, member, command)
        state.out.append(CancelRejected(order=state.reference(barred), reason=RejectReason.UNKNOWN_ORDER))
        return
    if _heard(command, known):
        _duplicate(state, command)
        return
    _take_revision(state, command, known)
    reason = _refusal_of_known(known)
    if reason is None:
        assert isinstance(known, Order)
        reason = admission.refusal_of_cancel(known)
    if reason is not None:
        state.out.append(CancelRejected(order=state.reference(known), reason=reason))
        return
    assert isinstance(known, Order)
    state.touch(known.instrument)
    trading.cancel_rest(state, known, _USER)
    if known.instrument.phase in CALL_PHASES:
        trading.update_theoretical(state, known.instrument)


def replace(state: State, command: ReplaceOrder) -> None:
    """Give an order another price or total, or refuse."""
    member = state.member(command.participant)
    known = member.orders.get(command.order_id)
    if known is None:
        stranger = _bar(state, member, command) if command.revision is not None else _stranger(member, command)
        state.out.append(ReplaceRejected(order=state.reference(stranger), reason=RejectReason.UNKNOWN_ORDER))
        return
    if _heard(command, known):
        _duplicate(state, command)
        return
    _take_revision(state, command, known)
    reason = admission.refusal_of_replace_shape(command) or _refusal_of_known(known)
    if reason is None:
        assert isinstance(known, Order)
        reason = admission.refusal_of_replace(state, command, known)
    if reason is not None:
        state.out.append(ReplaceRejected(order=state.reference(known), reason=reason))
        return

    # From here the replace is accepted.
    assert isinstance(known, Order)
    _apply_replace(state, command, known)


def _apply_replace(state: State, command: ReplaceOrder, order: Order) -> None:
    instrument = order.instrument
    state.touch(instrument)
    state.touch(order)
    price = order.price if command.price_ticks is None else command.price_ticks
    quantity = order.quantity if command.quantity_shares is None else command.quantity_shares
    tif = order.tif if command.time_in_force is None else command.time_in_force
    in_call = instrument.phase in CALL_PHASES
    if quantity <= order.cum:
        trading.cancel_rest(state, order, CancelReason.REPLACED_TO_FILLED)
    elif price == order.price and tif is order.tif and quantity <= order.quantity:
        _keep_place(state, command, order, quantity)
    else:
        where = order.state
        given = trading.allotted(instrument, order) if in_call else []
        trading.take_out(state, order)
        order.price = price
        order.tif = tif
        order.quantity = quantity
        order.leaves = quantity - order.cum
        if command.protection_price_ticks is not None:
            order.protection = command.protection_price_ticks
        _say_replaced(state, order, kept_priority=False)
        if where != RESTING:
            _wait_again(state, order, where)
        elif instrument.phase in CONTINUOUS_PHASES:
            continuous.trade_and_settle_the_rest(state, order)
        else:
            trading.rest(state, order)
            if in_call and trading.allotted(instrument, order) != given:
                instrument.call_changed_ns = state.market.now_ns
    if in_call:
        trading.update_theoretical(state, instrument)


def _wait_again(state: State, order: Order, where: int) -> None:
    """Put an order back to where it waits outside the book, as the newest there."""
    instrument = order.instrument
    instrument.entries = order.entry = instrument.entries + 1
    order.state = where
    state.live_orders += 1
    instrument.place(order)
    if where == TRIGGERED:
        state.to_settle[instrument.ticker] = instrument


def _keep_place(state: State, command: ReplaceOrder, order: Order, quantity: int) -> None:
    if command.protection_price_ticks is not None:
        order.protection = command.protection_price_ticks
    less = order.quantity - quantity
    order.quantity = quantity
    if order.state == RESTING:
        order.instrument.book_side(order.side).reduce(order, less)
        order.shown = min(order.shown, order.leaves)
    else:
        order.leaves -= less
    _say_replaced(state, order, kept_priority=True)
    if order.state == RESTING and less:
        trading.show(state, order, trading.visible_shares(order))


def _say_replaced(state: State, order: Order, *, kept_priority: bool) -> None:
    state.out.append(
        OrderReplaced(
            order=state.reference(order),
            ticker=order.instrument.ticker,
            side=order.side,
            price_ticks=order.price,
            quantity_shares=order.quantity,
            cum_shares=order.cum,
            leaves_shares=order.leaves,
            kept_priority=kept_priority,
        )
    )


def _heard(command: CancelOrder | ReplaceOrder, known: Order | Ended) -> bool:
    return command.revision is not None and command.revision <= known.revision


def _take_revision(state: State, command: CancelOrder | ReplaceOrder, known: Order | Ended) -> None:
    if command.revision is not None:
        state.touch(known)
        known.revision = command.revision


def _duplicate(state: State, command: PlaceOrder | CancelOrder | ReplaceOrder) -> None:
    state.out.append(
        DuplicateIgnored(participant=command.participant, order_id=command.order_id, revision=command.revision)
    )


def _refusal_of_known(known: Order | Ended) -> RejectReason | None:
    if isinstance(known, Ended) and known.barred:
        return RejectReason.UNKNOWN_ORDER
    return RejectReason.TOO_LATE if known.state == ENDED else None


def _stranger(member: Member, command: CancelOrder | ReplaceOrder) -> Ended:
    """Name an id that is not known, for one answer only."""
    account = command.account if isinstance(command, CancelOrder) else None
    return Ended(
        member=member,
        order_id=command.order_id,
        account=account or "",
        ticker=command.ticker or "",
        revision=command.revision or 0,
        barred=True,
    )


def _bar(state: State, member: Member, command: CancelOrder | ReplaceOrder) -> Ended:
    """Make an unknown id known as one that can never be used."""
    barred = _stranger(member, command)
    state.know(barred)
    return barred


def mass_cancel(state: State, command: MassCancel) -> None:
    """Cancel a participant's orders, instrument by instrument; what is locked in an auction stays."""
    member = state.member(command.participant)
    cancelled: list[OrderCancelled] = []
    for instrument in list(state.instruments.values()):
        if command.ticker is None or command.ticker == instrument.ticker:
            start = len(state.out)
            guarded(state, instrument, command, _cancel_all, member, command.account, CancelReason.MASS_CANCEL)
            cancelled += [event for event in state.out[start:] if isinstance(event, OrderCancelled)]
    state.mark()
    state.touch(member)
    member.reports += 1
    state.out.append(
        MassCancelled(
            participant=member.name,
            report_number=member.reports,
            mass_id=command.mass_id,
            orders=len(cancelled),
        )
    )


def _cancel_all(
    state: State, instrument: Instrument, member: Member, account: str | None, reason: CancelReason
) -> None:
    """Cancel what may be cancelled of one participant in one instrument, oldest first."""
    if instrument.phase not in PHASES_THAT_ACCEPT_CANCELS:
        return
    in_call = instrument.phase in CALL_PHASES
    mine = [order for order in instrument.live() if order.member is member and account in {None, order.account}]
    for order in mine:
        if in_call and trading.is_locked(order):
            continue
        if reason is CancelReason.DISCONNECT and order.tif in _KEPT_ON_DISCONNECT:
            continue
        trading.cancel_rest(state, order, reason)
    if in_call and mine:
        trading.update_theoretical(state, instrument)


def logon(state: State, command: Logon) -> None:
    """Note that a participant's door is up; the command's offset names the logon."""
    member = state.member(command.participant)
    state.touch(member)
    member.logon_offset = state.offset
    member.connected = True
    state.out.append(LoggedOn(participant=member.name))


def disconnect(state: State, command: Disconnect) -> None:
    """Take a participant off: its day orders go, its gtc and gtd orders and those locked in an auction stay."""
    member = state.member(command.participant)
    if not member.connected or member.logon_offset != command.logon_offset:
        why = f"expected the logon at {member.logon_offset}, was {command.logon_offset}"
        state.out.append(CommandIgnored(command="disconnect", why=why))
        return
    state.touch(member)
    member.connected = False
    state.out.append(Disconnected(participant=member.name))
    for instrument in list(state.instruments.values()):
        guarded(state, instrument, command, _cancel_all, member, None, CancelReason.DISCONNECT)
