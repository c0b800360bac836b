"""A small market where everything is right: two accounts of ours, one of another broker; tests then break one thing."""

from __future__ import annotations

from dataclasses import replace

from mybroker.contracts import events as ev
from mybroker.contracts.frames import Frame
from mybroker.domain.order import Aggressor, CancelReason, OrderType, Side, TimeInForce
from mybroker.prove.audit import Gathered
from mybroker.prove.exchange import ExchangeView
from mybroker.prove.rows import (
    BrokerFill,
    BrokerOrder,
    LedgerAccount,
    LedgerBook,
    LedgerHold,
    LedgerTransfer,
    OrdersBook,
    ShardName,
)

SHARD = ShardName(market="equities", shard=0)
US = "MYBROKER"


def ref(order_id: str, account: str, number: int, participant: str = US, revision: int = 1) -> ev.OrderRef:
    return ev.OrderRef(
        participant=participant, account=account, order_id=order_id, revision=revision, report_number=number
    )


def accepted(
    order_id: str, account: str, number: int, side: Side, quantity: int, price: int, participant: str = US
) -> ev.Event:
    return ev.OrderAccepted(
        order=ref(order_id, account, number, participant),
        ticker="PETR4",
        side=side,
        type=OrderType.LIMIT,
        time_in_force=TimeInForce.DAY,
        price_ticks=price,
        quantity_shares=quantity,
    )


# ana buys 200 at 30.10 and gets 100 at 30.00 from bruno, then cancels; bruno sells 300, 100 go, 200 stay open;
# carla, another broker's, buys 100 of them: one trade between strangers for us to sell into.
FRAMES: tuple[tuple[ev.Event, ...], ...] = (
    (accepted("s1", "bruno", 1, Side.SELL, 300, 3000),),
    (
        accepted("b1", "ana", 2, Side.BUY, 200, 3010),
        ev.TradeExecuted(
            trade_id="t1",
            ticker="PETR4",
            price_ticks=3000,
            quantity_shares=100,
            aggressor=Aggressor.BUY,
            buy=ev.TradeSide(order=ref("b1", "ana", 3), cum_shares=100, leaves_shares=100),
            sell=ev.TradeSide(order=ref("s1", "bruno", 4), cum_shares=100, leaves_shares=200),
        ),
    ),
    (
        ev.OrderCancelled(
            order=ref("b1", "ana", 5, revision=2),
            ticker="PETR4",
            side=Side.BUY,
            quantity_shares=100,
            cum_shares=100,
            reason=CancelReason.USER,
        ),
    ),
    (accepted("x1", "carla", 1, Side.BUY, 100, 2990, participant="OTHER"),),
)


def frame(seq: int, events: tuple[ev.Event, ...]) -> Frame:
    return Frame(
        log_id="log", seq=seq, offset=seq, epoch=1, engine_version=1, at_ns=seq, digest=str(seq), events=events
    )


def exchange_of(frames: tuple[tuple[ev.Event, ...], ...] = FRAMES, upto: int | None = None) -> ExchangeView:
    view = ExchangeView(participant=US, session_key="local.t", upto=None if upto is None else {SHARD: upto})
    for seq, events in enumerate(frames, start=1):
        view.take(SHARD, frame(seq, events))
    return view


def order(order_id: str, account: str, side: str, quantity: int, cum: int, status: str, **more: object) -> BrokerOrder:
    leaves = 0 if status in ("filled", "canceled", "rejected", "expired") else quantity - cum
    row = BrokerOrder(
        order_id=order_id,
        account=account,
        client_order_id=f"c-{order_id}",
        ticker="PETR4",
        side=side,
        quantity_shares=quantity,
        hold_price_ticks=3010 if side == "buy" else None,
        cum_shares=cum,
        filled_cents=cum * 3000,
        leaves_shares=leaves,
        status=status,
        revision=1,
        routed=True,
    )
    return replace(row, **more)  # type: ignore[arg-type]


def orders_book() -> OrdersBook:
    return OrdersBook(
        orders=(
            order("b1", "ana", "buy", 200, 100, "canceled"),
            order("s1", "bruno", "sell", 300, 100, "partially_filled"),
        ),
        fills=(
            BrokerFill(order_id="b1", trade_id="t1", price_ticks=3000, quantity_shares=100),
            BrokerFill(order_id="s1", trade_id="t1", price_ticks=3000, quantity_shares=100),
        ),
        applied={SHARD: 5},
        private_seqs={"ana": (1, 2, 3), "bruno": (1, 2)},
        private_last={"ana": 3, "bruno": 2},
        positions={},
    )


def transfer(
    id_: str, kind: str, purpose: str, debit: str, credit: str, asset: str, amount: int, **more: object
) -> LedgerTransfer:
    row = LedgerTransfer(
        id=id_, kind=kind, purpose=purpose, debit_owner=debit, credit_owner=credit, asset=asset, amount=amount
    )
    return replace(row, **more)  # type: ignore[arg-type]


CLEARING = "house:clearing"


def ledger_book() -> LedgerBook:
    of_b1, of_s1 = {"order_id": "b1", "trade_id": "t1"}, {"order_id": "s1", "trade_id": "t1"}
    return LedgerBook(
        transfers=(
            transfer("d1", "posted", "deposit", "house:deposits", "ana", "BRL", 1_000_000),
            transfer("d2", "posted", "deposit", "house:issuer", "bruno", "PETR4", 300),
            transfer("h1", "pending", "hold", "bruno", CLEARING, "PETR4", 300, order_id="s1"),
            transfer("h2", "pending", "hold", "ana", CLEARING, "BRL", 602_000, order_id="b1"),
            transfer("p2", "post", "fill", "ana", CLEARING, "BRL", 300_000, released=302_000, pending_id="h2", **of_b1),
            transfer("g2", "posted", "fill", CLEARING, "ana", "PETR4", 100, **of_b1),
            transfer("h3", "pending", "hold", "ana", CLEARING, "BRL", 301_000, order_id="b1"),
            transfer("p1", "post", "fill", "bruno", CLEARING, "PETR4", 100, released=200, pending_id="h1", **of_s1),
            transfer("g1", "posted", "fill", CLEARING, "bruno", "BRL", 300_000, **of_s1),
            transfer("h4", "pending", "hold", "bruno", CLEARING, "PETR4", 200, order_id="s1"),
            transfer("v3", "void", "release", "ana", CLEARING, "BRL", 301_000, pending_id="h3", order_id="b1"),
        ),
        accounts=(
            LedgerAccount(owner="ana", asset="BRL", debits_posted=300_000, credits_posted=1_000_000),
            LedgerAccount(owner="ana", asset="PETR4", credits_posted=100),
            LedgerAccount(owner="bruno", asset="BRL", credits_posted=300_000),
            LedgerAccount(owner="bruno", asset="PETR4", debits_posted=100, credits_posted=300, debits_pending=200),
        ),
        holds=(
            hold("b1", "ana", "buy", 200, 3010, filled=100, amount=0, closed=True),
            hold("s1", "bruno", "sell", 300, 0, filled=100, amount=200, closed=False),
        ),
        positions={},
    )


def hold(
    order_id: str, owner: str, side: str, quantity: int, price: int, *, filled: int, amount: int, closed: bool
) -> LedgerHold:
    return LedgerHold(
        order_id=order_id,
        owner=owner,
        asset="PETR4",
        side=side,
        quantity_shares=quantity,
        price_ticks=price,
        next_quantity_shares=None,
        next_price_ticks=None,
        filled_shares=filled,
        amount=amount,
        closed=closed,
    )


def gathered(
    exchange: ExchangeView | None = None, orders: OrdersBook | None = None, ledger: LedgerBook | None = None
) -> Gathered:
    return Gathered(
        exchange=exchange or exchange_of(), orders=orders or orders_book(), ledger=ledger or ledger_book(), pending=()
    )
