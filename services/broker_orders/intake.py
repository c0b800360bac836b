"""New orders, cancels and replaces: from a request to a routed command, or to a refusal with its reason.

A new order: shape, instrument, phase, limits; then its row, unique by (account, client_order_id); then its hold in the
wallet; then one transaction that routes it. Whatever dies on the way, the row tells how far it came: the same request
again goes on from there, and the reconciler ends what nobody comes back for. A refusal before the row leaves nothing
behind, so the same client id may be tried again; one by the wallet ends the order.
"""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from mybroker.contracts.catalogue import shipped_catalogue
from mybroker.contracts.directory import DirectoryEntry
from mybroker.contracts.http_broker import NewOrderBody, ReplaceBody
from mybroker.contracts.problems import RETRY_AFTER_S, status_of, title_of
from mybroker.domain.money import QUANTITY_SHARES_MAX, parse_price_ticks
from mybroker.domain.order import OrderType, Side
from mybroker.domain.refusal import RejectReason
from mybroker.runtime.clock import Clock
from mybroker.runtime.directory import Directory
from mybroker.runtime.ids import IdSource
from mybroker.runtime.lifecycle import passing
from mybroker.runtime.problem import Problem, Unavailable
from mybroker.runtime.telemetry import counter
from services.broker_orders.admission import Prices, TickerState, admit, admit_terms, find_session, read_shape
from services.broker_orders.desk import Desk
from services.broker_orders.lifecycle import Order, Status, settled
from services.broker_orders.market_states import MarketStates
from services.broker_orders.operations import AskCancel, AskReplace, DropReplace, Refuse, Route, RouteReplace
from services.broker_orders.reads import Reads
from services.broker_orders.store import OrderStore
from services.broker_orders.wallet_client import WalletClient

DESIRED_STATE_CLOSED = "Closed"

_REFUSED = counter("mbb3_orders_refused_total", "Orders, cancels and replaces refused", ["reason"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """An order that stands, and whether this request made it."""

    order: Order
    new: bool


class Intake:
    """Takes what owners of accounts ask."""

    def __init__(
        self,
        *,
        desk: Desk,
        reads: Reads,
        store: OrderStore,
        wallet: WalletClient,
        states: MarketStates,
        directory: Directory,
        clock: Clock,
        ids: IdSource,
        door_is_silent: Callable[[], bool],
    ) -> None:
        self._desk = desk
        self._reads = reads
        self._store = store
        self._wallet = wallet
        self._states = states
        self._directory = directory
        self._clock = clock
        self._ids = ids
        self._door_is_silent = door_is_silent
        self._instruments = shipped_catalogue()

    def session_now_ns(self, session_key: str) -> int:
        """Return a session's time; the wall's where the session is not known."""
        return self._directory.session_now_ns(session_key) or self._clock.now_ns()

    async def place(self, account: str, body: NewOrderBody) -> Placed:
        """Place an order, or give the first one under its client id back. Raises Problem for a refusal."""
        wanted = await self._admitted(account, body)
        if isinstance(wanted, RejectReason):
            return await self._first_or_refuse(account, body, wanted)
        standing = await self._desk.receive(wanted)
        passing("orders.received")
        if standing.order_id != wanted.order_id:
            return await self._go_on(standing, wanted.content)
        return Placed(order=await self._hold_and_route(standing), new=True)

    async def cancel(self, account: str, order_id: str) -> Order:
        """Ask the exchange to cancel what is left. Raises Problem."""
        order = await self._owned(account, order_id)
        asked = AskCancel(order_id=order_id, account=account, at_ns=self.session_now_ns(order.session_key))
        result = await self._desk.do(asked)
        if result.refusal is not None or result.order is None:
            raise refusal_problem(result.refusal or RejectReason.UNKNOWN_ORDER, order_id=order_id)
        return result.order

    async def replace(self, account: str, order_id: str, body: ReplaceBody) -> Order:
        """Ask the exchange for other terms, after holding for them. Raises Problem."""
        order = await self._owned(account, order_id)
        price_ticks = self._replace_price(order, body)
        quantity = order.quantity_shares if body.quantity is None else body.quantity
        if not order.done:
            await self._check_terms(order, quantity, price_ticks)
        self._check_reachable()
        asked = AskReplace(
            order_id=order_id,
            account=account,
            quantity_shares=body.quantity,
            price_ticks=price_ticks,
            at_ns=self.session_now_ns(order.session_key),
        )
        result = await self._desk.do(asked)
        if result.refusal is not None or result.order is None:
            raise refusal_problem(result.refusal or RejectReason.UNKNOWN_ORDER, order_id=order_id)
        return await self._hold_and_route_replace(result.order)

    # ------------------------------------------------------------ new orders

    async def _admitted(self, account: str, body: NewOrderBody) -> Order | RejectReason:
        shape = read_shape(body)
        if isinstance(shape, RejectReason):
            return shape
        entry = find_session(self._open_sessions(), ticker=body.ticker, session=body.session)
        if isinstance(entry, RejectReason):
            return entry
        orders_open = self._store.orders_open.get(account)
        if orders_open is None:
            orders_open = self._store.orders_open[account] = await self._reads.orders_open(account)

        def decide(state: TickerState | None) -> Prices | RejectReason:
            instrument = self._instruments.find(body.ticker)
            return admit(body, shape, instrument=instrument, state=state, orders_open=orders_open)

        state, is_fresh = self._states.last(entry.key, body.ticker)
        prices = decide(state)
        if isinstance(prices, RejectReason) and not is_fresh:
            prices = decide(await self._states.fresh(entry.key, body.ticker))
        if isinstance(prices, RejectReason):
            return prices
        self._check_reachable()
        return self._new_order(account, body, entry, prices)

    def _new_order(self, account: str, body: NewOrderBody, entry: DirectoryEntry, prices: Prices) -> Order:
        order_id = self._ids.new_id()
        now_ns = self.session_now_ns(entry.key)
        order = Order(
            order_id=order_id,
            account=account,
            client_order_id=body.client_order_id or order_id,
            content=content_of(body),
            session_key=entry.key,
            ticker=body.ticker,
            side=body.side,
            type=body.type,
            time_in_force=body.time_in_force,
            quantity_shares=body.quantity,
            price_ticks=prices.price_ticks,
            protection_price_ticks=prices.protection_price_ticks,
            hold_price_ticks=prices.hold_price_ticks,
            created_at_ns=now_ns,
            updated_at_ns=now_ns,
        )
        return settled(order, wall_ns=self._clock.now_ns())

    async def _first_or_refuse(self, account: str, body: NewOrderBody, reason: RejectReason) -> Placed:
        """A request that would be refused now may be one that was taken before."""
        if body.client_order_id is not None and reason is not RejectReason.MALFORMED:
            first = await self._reads.by_client_id(account, body.client_order_id)
            if first is not None:
                return await self._go_on(first, content_of(body))
        raise refusal_problem(reason)

    async def _go_on(self, first: Order, content: str) -> Placed:
        """Give the first order under a client id back, after finishing what an earlier request began."""
        if first.content != content:
            raise refusal_problem(
                RejectReason.CLIENT_ORDER_ID_CONFLICT,
                detail=f"{first.client_order_id}: expected {first.content}, was {content}",
                order_id=first.order_id,
            )
        if first.status is Status.RECEIVED:
            return Placed(order=await self._hold_and_route(first), new=False)
        if first.status is Status.REJECTED and not first.routed:
            raise refusal_problem(_reason(first.reason), order_id=first.order_id)
        return Placed(order=first, new=False)

    async def _hold_and_route(self, order: Order) -> Order:
        refusal = await self._hold(
            order, revision=1, quantity_shares=order.quantity_shares, price_ticks=order.hold_price_ticks or 0
        )
        passing("orders.held")
        if refusal is not None:
            at_ns = self.session_now_ns(order.session_key)
            await self._desk.do(Refuse(order_id=order.order_id, reason=refusal, at_ns=at_ns))
            raise refusal_problem(refusal, order_id=order.order_id)
        return await self._route(order)

    async def _route(self, order: Order) -> Order:
        result = await self._desk.do(Route(order_id=order.order_id, at_ns=self.session_now_ns(order.session_key)))
        passing("orders.routed")
        routed = result.order
        assert routed is not None, f"order {order.order_id} has a row"
        if routed.status is Status.REJECTED and not routed.routed:
            raise refusal_problem(_reason(routed.reason), order_id=order.order_id)
        return routed

    # ------------------------------------------------------------ replaces

    def _replace_price(self, order: Order, body: ReplaceBody) -> int | None:
        if body.quantity is None and body.price is None:
            raise refusal_problem(RejectReason.MALFORMED, detail="expected a quantity, a price or both, was neither")
        if body.quantity is not None and abs(body.quantity) > QUANTITY_SHARES_MAX:
            raise refusal_problem(RejectReason.MALFORMED, detail="quantity: out of range")
        price_ticks = None if body.price is None else parse_price_ticks(body.price)
        if isinstance(price_ticks, RejectReason):
            raise refusal_problem(price_ticks, order_id=order.order_id)
        if price_ticks is not None and order.type is OrderType.MARKET and order.price_ticks is None:
            raise refusal_problem(RejectReason.PRICE_NOT_ALLOWED, order_id=order.order_id)
        if body.quantity is not None and body.quantity <= 0:
            raise refusal_problem(RejectReason.QUANTITY_NOT_POSITIVE, order_id=order.order_id)
        return price_ticks

    async def _check_terms(self, order: Order, quantity_shares: int, price_ticks: int | None) -> None:
        instrument = self._instruments.find(order.ticker)
        state, is_fresh = self._states.last(order.session_key, order.ticker)
        refusal = admit_terms(quantity_shares, price_ticks, instrument=instrument, state=state)
        if refusal is not None and not is_fresh:
            state = await self._states.fresh(order.session_key, order.ticker)
            refusal = admit_terms(quantity_shares, price_ticks, instrument=instrument, state=state)
        if refusal is not None:
            raise refusal_problem(refusal, order_id=order.order_id)

    async def _hold_and_route_replace(self, order: Order) -> Order:
        revision = order.pending_revision
        quantity_shares = order.pending_quantity_shares or order.quantity_shares
        price_ticks = order.pending_price_ticks or order.hold_price_ticks or 0
        refusal = await self._hold(order, revision=revision, quantity_shares=quantity_shares, price_ticks=price_ticks)
        at_ns = self.session_now_ns(order.session_key)
        if refusal is not None:
            await self._desk.do(
                DropReplace(order_id=order.order_id, revision=revision, reason=refusal.value, at_ns=at_ns)
            )
            raise refusal_problem(refusal, order_id=order.order_id)
        result = await self._desk.do(RouteReplace(order_id=order.order_id, revision=revision, at_ns=at_ns))
        if result.refusal is not None or result.order is None:
            raise refusal_problem(result.refusal or RejectReason.UNKNOWN_ORDER, order_id=order.order_id)
        return result.order

    # ------------------------------------------------------------ pieces

    async def _hold(
        self, order: Order, *, revision: int, quantity_shares: int, price_ticks: int
    ) -> RejectReason | None:
        try:
            return await self._wallet.hold(
                order_id=order.order_id,
                revision=revision,
                account=order.account,
                ticker=order.ticker,
                side=order.side,
                quantity_shares=quantity_shares,
                price_ticks=price_ticks if order.side is Side.BUY else 0,
                at_ns=self.session_now_ns(order.session_key),
            )
        except Unavailable as away:
            raise refusal_problem(
                RejectReason.WALLET_UNAVAILABLE,
                detail=str(away),
                order_id=order.order_id,
                retry_after_s=away.retry_after_s,
            ) from away

    def _check_reachable(self) -> None:
        """Refuse what could not be finished, before anything is begun."""
        wallet_away_ms = self._wallet.away_for_ms()
        if wallet_away_ms is not None:
            raise refusal_problem(RejectReason.WALLET_UNAVAILABLE, retry_after_s=-(-wallet_away_ms // 1000))
        if self._door_is_silent():
            raise refusal_problem(RejectReason.EXCHANGE_UNAVAILABLE)

    def _open_sessions(self) -> tuple[DirectoryEntry, ...]:
        entries = self._directory.entries.values()
        return tuple(entry for entry in entries if entry.desired_state != DESIRED_STATE_CLOSED)

    async def _owned(self, account: str, order_id: str) -> Order:
        order = await self._reads.row(order_id)
        if order is None or order.account != account:
            raise refusal_problem(RejectReason.UNKNOWN_ORDER, order_id=order_id)
        return order


def content_of(body: NewOrderBody) -> str:
    """Return what must be the same when an order is sent again under its client id."""
    named = msgspec.structs.replace(body, client_order_id=None)
    return msgspec.json.encode(named).decode()


def refusal_problem(
    reason: RejectReason, *, detail: str | None = None, order_id: str | None = None, retry_after_s: int | None = None
) -> Problem:
    """Return a refusal as it travels over HTTP, and count it."""
    _REFUSED.labels(reason.value).inc()
    status = status_of(reason)
    wait_s = retry_after_s or (RETRY_AFTER_S if status in (429, 503) else None)
    problem = Problem(
        status, reason.value, detail or title_of(reason), retry_after_s=wait_s, retryable=reason.retryable
    )
    if order_id is not None:
        problem.extra["order_id"] = order_id
    return problem


def _reason(text: str | None) -> RejectReason:
    known = {reason.value for reason in RejectReason}
    return RejectReason(text) if text in known else RejectReason.IN_DOUBT_CANCELLED
