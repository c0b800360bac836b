"""broker_orders and broker_wallet as processes, on real Kafka and PostgreSQL, with the exchange played by the test."""

import asyncio
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from mybroker.domain.refusal import RejectReason
from mybroker.local.engines.facade import Engines
from tests.broker.pair import Broker, Json, until
from tests.broker.stand_ins import (
    SESSION_KEY,
    StandInExchange,
)

pytestmark = [pytest.mark.engines, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(engines: Engines, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Broker]:
    broker = Broker(engines, tmp_path_factory.mktemp("broker"))
    await broker.start()
    yield broker
    await broker.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def broker(running: Broker) -> AsyncIterator[Broker]:
    yield running
    exchange, fresh = running.exchange, StandInExchange("")
    exchange.fills, exchange.lose, exchange.price_ticks = fresh.fills, fresh.lose, fresh.price_ticks
    exchange.refuse, exchange.deaf, exchange.twice, exchange.beating = None, False, False, True
    running.stand_ins.phase, running.stand_ins.last = "open", "30.00"
    for service in (running.wallet, running.orders):
        if service.ended:
            service.start()
        await service.ready(running.session)
    found = await running.invariants()
    assert found["ok"], [check for check in found["checks"] if not check["ok"]]


async def test_an_order_is_held_routed_filled_and_settled(broker: Broker):
    ana = await broker.account()
    status, order = await ana.buy(client_order_id="c1")
    assert status == 201
    assert order["status"] == "pending_new"
    done = await ana.until_status(order["id"], "filled")
    assert (done["filled_quantity"], done["average_price"]) == (100, "29.9000")
    assert [fill["quantity"] for fill in done["fills"]] == [100]
    wallet = await ana.until_cash("7010.00", "0.00")
    assert wallet["shares"] == [{"asset": "PETR4", "available": 100, "held": 0, "total": 100}]
    events = await ana.until_events("wallet", "wallet", "routed", "acknowledged", "trade", "wallet")
    trade = next(event for event in events if event["kind"] == "trade")
    assert trade["trade"]["price"] == "29.90"
    assert trade["order"]["client_order_id"] == "c1"
    _, positions = await ana.call("GET", "/positions")
    assert positions["positions"][0]["average_price"] == "29.9000"


async def test_the_same_client_id_gives_the_first_order_back_and_other_content_is_refused(broker: Broker):
    ana = await broker.account()
    broker.exchange.fills = lambda _order: []
    answers = await asyncio.gather(*(ana.buy(client_order_id="c1") for _ in range(8)))
    assert sorted(status for status, _ in answers) == [200] * 7 + [201]
    assert len({order["id"] for _, order in answers}) == 1
    status, problem = await ana.buy(client_order_id="c1", quantity=200)
    assert (status, problem["code"]) == (409, "client_order_id_conflict")
    await ana.until_cash("7000.00", "3000.00")
    broker.stand_ins.phase = "closed"
    status, order = await ana.buy(client_order_id="c1")
    assert (status, order["id"]) == (200, answers[0][1]["id"])


async def test_two_orders_at_once_cannot_spend_the_same_cash(broker: Broker):
    ana = await broker.account(cash="9000.00")
    broker.exchange.fills = lambda _order: []
    answers = await asyncio.gather(*(ana.buy() for _ in range(10)))
    codes = [answer.get("code", "placed") for _, answer in answers]
    assert sorted(codes) == ["insufficient_funds"] * 7 + ["placed"] * 3
    await ana.until_cash("0.00", "9000.00")


async def test_a_sell_holds_shares_and_without_them_it_is_refused(broker: Broker):
    ana = await broker.account(shares=100)
    broker.exchange.fills = lambda _order: []
    status, order = await ana.buy(side="sell")
    assert status == 201
    assert (await ana.buy(side="sell"))[1]["code"] == "insufficient_shares"
    _, wallet = await ana.call("GET", "/wallet")
    assert wallet["shares"] == [{"asset": "PETR4", "available": 0, "held": 100, "total": 100}]
    await ana.until_status(order["id"], "new")
    assert (await ana.call("DELETE", f"/orders/{order['id']}"))[0] == 202
    await ana.until_status(order["id"], "canceled")

    async def free() -> bool | None:
        _, wallet = await ana.call("GET", "/wallet")
        return wallet["shares"][0]["available"] == 100 or None

    await until(free, "the shares to be let go")


async def test_a_market_buy_holds_the_upper_band_and_lets_go_what_it_saves(broker: Broker):
    ana = await broker.account()
    broker.exchange.fills = lambda _order: []
    status, order = await ana.buy(type="market", price=None)
    assert (status, order["protection_price"]) == (201, "36.00")
    await ana.until_cash("6400.00", "3600.00")
    await ana.until_status(order["id"], "new")
    await broker.exchange.trade_now(order["id"], 100)
    await ana.until_cash("7010.00", "0.00")


async def test_a_replace_holds_more_before_it_goes_out_and_less_after_it_is_confirmed(broker: Broker):
    ana = await broker.account()
    broker.exchange.fills = lambda _order: []
    _, order = await ana.buy()
    await ana.until_status(order["id"], "new")
    path = f"/orders/{order['id']}"
    status, problem = await ana.call("PUT", path, {"quantity": 400})
    assert (status, problem["code"]) == (409, "insufficient_funds")
    assert (await ana.order(order["id"]))["status"] == "new"
    await ana.until_cash("7000.00", "3000.00")
    assert (await ana.call("PUT", path, {"quantity": 300}))[0] == 202
    await ana.until_status(order["id"], "new")
    await ana.until_cash("1000.00", "9000.00")
    status, problem = await ana.call("PUT", path, {"quantity": 200, "price": "29.00"})
    assert status == 202, (problem, await ana.order(order["id"]), await ana.events())
    await ana.until_cash("4200.00", "5800.00")
    replaced = await ana.order(order["id"])
    assert (replaced["quantity"], replaced["price"], replaced["revision"]) == (200, "29.00", 4)


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"quantity": "many"}, 422, "malformed_body"),
        ({"price": "abc"}, 422, "price_malformed"),
        ({"price": "30.005"}, 400, "price_not_on_tick"),
        ({"price": None}, 400, "price_required"),
        ({"ticker": "XXXX3"}, 404, "unknown_instrument"),
        ({"session": "other"}, 404, "unknown_session"),
        ({"quantity": 50}, 400, "quantity_not_multiple_of_lot"),
        ({"price": "36.01"}, 409, "price_outside_rejection_band"),
    ],
)
async def test_bad_orders_are_refused_with_their_code_and_leave_nothing(
    broker: Broker, fields: Json, status: int, code: str
):
    ana = await broker.account()
    given, problem = await ana.buy(client_order_id="c", **fields)
    assert (given, problem["code"]) == (status, code)
    _, page = await ana.call("GET", "/orders")
    assert page["orders"] == []
    assert (await ana.buy(client_order_id="c"))[0] == 201


async def test_an_account_sees_only_its_own(broker: Broker):
    ana, bia = await broker.account(), await broker.account()
    _, order = await ana.buy()
    assert (await bia.call("GET", f"/orders/{order['id']}"))[0] == 404
    assert (await bia.call("DELETE", f"/orders/{order['id']}"))[0] == 404
    _, wallet = await bia.call("GET", f"/wallet?account={ana.name}")
    assert wallet["account"] == bia.name
    async with broker.session.get(f"{broker.orders.url}/orders") as answer:
        assert answer.status == 401
    async with broker.session.post(f"{broker.wallet.url}/holds", json={}) as answer:
        assert answer.status == 401


async def test_orders_page_newest_first_and_filter(broker: Broker):
    ana = await broker.account(cash="100000.00")
    ids = [(await ana.buy(client_order_id=f"c{n}"))[1]["id"] for n in range(5)]
    _, first = await ana.call("GET", "/orders?limit=3")
    _, second = await ana.call("GET", f"/orders?limit=3&cursor={first['next']}")
    assert [o["id"] for o in first["orders"] + second["orders"]] == ids[::-1]
    assert second["next"] is None
    _, one = await ana.call("GET", "/orders?client_order_id=c2")
    assert [o["id"] for o in one["orders"]] == [ids[2]]
    assert (await ana.call("GET", "/orders?status=nonsense"))[0] == 422


async def test_reports_twice_and_lost_ones_end_in_the_same_orders(broker: Broker):
    ana = await broker.account(cash="1000000.00")
    broker.exchange.twice = True
    broker.exchange.fills = lambda _order: [40, 60]
    lost = 0

    def lose(report: object) -> bool:
        nonlocal lost
        lost += 1
        return lost % 3 == 0

    broker.exchange.lose = lose
    orders = [(await ana.buy())[1]["id"] for _ in range(10)]
    for order_id in orders:
        done = await ana.until_status(order_id, "filled")
        assert [fill["quantity"] for fill in done["fills"]] == [40, 60]
    await ana.until_cash("970100.00", "0.00")


async def test_a_lost_last_report_shows_in_the_heartbeat(broker: Broker):
    ana = await broker.account()
    broker.exchange.lose = lambda report: report.kind == "trade"
    _, order = await ana.buy()
    await ana.until_status(order["id"], "filled")


async def test_what_the_door_refuses_ends_only_when_a_cancel_has_barred_the_id(broker: Broker):
    ana = await broker.account()
    broker.exchange.refuse = RejectReason.THROTTLED
    _, order = await ana.buy()
    ended = await ana.until_status(order["id"], "rejected")
    assert ended["reason"] == "throttled"
    assert order["id"] in broker.exchange.barred
    await ana.until_cash("10000.00", "0.00")


async def test_an_order_the_exchange_never_answered_is_cancelled_and_let_go(broker: Broker):
    ana = await broker.account()
    broker.exchange.deaf = True
    _, order = await ana.buy()
    await ana.until_status(order["id"], "pending_cancel")
    broker.exchange.deaf = False
    ended = await ana.until_status(order["id"], "rejected")
    assert ended["reason"] == "in_doubt_cancelled"
    await ana.until_cash("10000.00", "0.00")


async def test_a_fill_that_came_first_wins_over_the_cancel(broker: Broker):
    ana = await broker.account()
    broker.exchange.lose = lambda report: report.kind == "trade"
    _, order = await ana.buy()
    status, answer = await ana.call("DELETE", f"/orders/{order['id']}")
    assert status in (202, 409), answer
    await ana.until_status(order["id"], "filled")
    await ana.until_cash("7010.00", "0.00")


async def test_an_away_wallet_refuses_with_503_and_nothing_is_held(broker: Broker):
    ana = await broker.account()
    broker.wallet.kill()
    async with broker.session.post(
        f"{broker.orders.url}/orders",
        json={"ticker": "PETR4", "side": "buy", "quantity": 100, "price": "30.00", "client_order_id": "c1"},
        headers=ana.headers,
    ) as answer:
        problem = await answer.json()
        assert (answer.status, problem["code"]) == (503, "wallet_unavailable")
        assert int(answer.headers["Retry-After"]) >= 1
    assert (await ana.call("GET", "/orders"))[0] == 200
    broker.wallet.start()
    await broker.wallet.ready(broker.session)

    async def placed_or_refused() -> bool | None:
        status, _ = await ana.buy(patient=False, client_order_id="c1")
        return status in (200, 409) or None

    await until(placed_or_refused, "the first order under its client id to be settled")


async def test_a_silent_door_refuses_with_503_before_anything_is_held(broker: Broker):
    ana = await broker.account()
    broker.exchange.beating = False

    async def refused() -> Json | None:
        status, problem = await ana.buy(patient=False)
        return problem if status == 503 else None

    problem = await until(refused, "the door to be found silent")
    assert problem["code"] == "exchange_unavailable"


async def test_waiting_for_events_answers_at_the_next_one(broker: Broker):
    ana = await broker.account()
    broker.exchange.fills = lambda _order: []
    await ana.until_events("wallet")
    waiting = asyncio.create_task(ana.call("GET", "/events?after=1&wait_ms=15000"))
    started = time.monotonic()
    await ana.buy()
    _, answer = await waiting
    assert answer["events"][0]["seq"] == 2
    assert time.monotonic() - started < 5


async def test_the_day_is_reconciled_trade_by_trade(broker: Broker):
    ana = await broker.account()
    _, order = await ana.buy()
    await ana.until_status(order["id"], "filled")
    status, report = await broker.internal("POST", broker.orders, f"/internal/day-check?session={SESSION_KEY}")
    assert (status, report["ok"], report["differences"]) == (200, True, [])
    assert report["exchange_trades"] == report["broker_fills"] > 0


@pytest.mark.parametrize(
    ("service", "point"),
    [
        ("orders", "orders.received"),
        ("orders", "orders.held"),
        ("orders", "orders.routed"),
        ("orders", "orders.relayed"),
        ("orders", "orders.report_stored"),
        ("wallet", "wallet.hold_committed"),
        ("wallet", "wallet.fill_posted"),
    ],
)
async def test_a_service_killed_at_any_point_loses_nothing_and_does_nothing_twice(
    broker: Broker, service: str, point: str
):
    ana = await broker.account(cash="100000.00")
    victim = broker.orders if service == "orders" else broker.wallet
    victim.stop()
    victim.start(MYBROKER_KILL_AT=f"{point}:2")
    await victim.ready(broker.session)
    acknowledged, deaths = [], 0

    async def come_back() -> None:
        victim.start()
        await victim.ready(broker.session)

    for number in range(6):
        try:
            status, order = await ana.buy(patient=False, client_order_id=f"k{number}")
        except aiohttp.ClientError:
            status, order = 0, {}
        if status == 201:
            acknowledged.append(order["id"])
        if victim.ended:
            deaths += 1
            await come_back()

    async def dead() -> bool | None:
        return victim.ended or None

    if deaths == 0:
        await until(dead, f"{service} to die at {point}")
        await come_back()

    async def settled() -> list[Json] | None:
        _, page = await ana.call("GET", "/orders")
        open_ = [o for o in page["orders"] if o["status"] not in ("filled", "canceled", "rejected", "expired")]
        orders: list[Json] = page["orders"]
        return orders if not open_ else None

    orders = await until(settled, "every order to be done")
    filled = [order["id"] for order in orders if order["status"] == "filled"]
    assert set(acknowledged) <= {order["id"] for order in orders}
    cash = 100_000_00 - len(filled) * 2990_00
    await ana.until_cash(f"{cash // 100}.00", "0.00")
    await ana.events()
    _, report = await broker.internal("POST", broker.orders, f"/internal/day-check?session={SESSION_KEY}")
    assert report["ok"], report
