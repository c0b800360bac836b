"""Gateway, identity, feed and assets as processes over real engines; orders and wallet are stand-ins in the test."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import psycopg
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from mybroker.contracts import topics
from mybroker.contracts.catalogue import shipped_catalogue
from mybroker.contracts.directory import DirectoryEntry, MarketEntry, SessionClock, ShardEntry
from mybroker.contracts.frames import encode_events, encode_frame
from mybroker.contracts.quotes import Quote, encode_quote
from mybroker.runtime.directory import publish
from mybroker.runtime.http import build_app, serve
from mybroker.runtime.kafka import AsyncProducer, ensure_topics
from mybroker.runtime.lifecycle import AppContext
from mybroker.runtime.settings import load
from tests.feed.made_up_market import START_NS, FrameMaker, Reader

pytestmark = pytest.mark.engines

ROOT = Path(__file__).resolve().parent.parent.parent
SERVICES = ("broker_gateway", "broker_identity", "broker_assets", "b3_market_feed")
STAND_INS = ("broker_orders", "broker_wallet")
NAMES = ("local", "pregao", "equities")
DEADLINE_S = 60


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def until(condition, what, detail=lambda: ""):
    give_up_at = time.monotonic() + DEADLINE_S
    while True:
        found = condition()
        found = await found if asyncio.iscoroutine(found) else found
        if found:
            return found
        assert time.monotonic() < give_up_at, f"expected {what} within {DEADLINE_S} s {detail()}"
        await asyncio.sleep(0.02)


class House:
    """The processes under test, the stand-ins and a made-up market."""

    def __init__(self, engines, folder, session):
        self.session = session
        self.ports = {name: free_port() for name in (*SERVICES, *STAND_INS)}
        (folder / "internal_token").write_text("between-us")
        urls = {f"MYBROKER_URL_{name.upper()}": f"http://127.0.0.1:{port}" for name, port in self.ports.items()}
        self.env = {
            **os.environ,
            **engines.urls.as_env(),
            **urls,
            "MYBROKER_NAMESPACE": NAMES[0],
            "MYBROKER_SESSION": NAMES[1],
            "MYBROKER_DATA_DIR": str(folder),
            "MYBROKER_SECRETS_DIR": str(folder),
            "MYBROKER_DEMO_USER": "1",
        }
        self.folder = folder
        self.processes = {}
        self.maker = FrameMaker(11, tickers=("PETR4", "VALE3"))
        self.written = 0
        self.deposits = []
        self.wallet_away = False

    def start(self, name):
        log = (self.folder / f"{name}.log").open("ab")
        env = self.env | {"MYBROKER_HTTP_PORT": str(self.ports[name])}
        command = [sys.executable, "-m", f"services.{name}"]
        self.processes[name] = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log)
        log.close()

    def kill(self, name):
        process = self.processes.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    async def ready(self, name):
        async def asked():
            try:
                async with self.session.get(f"http://127.0.0.1:{self.ports[name]}/readyz") as response:
                    return response.status == 200
            except aiohttp.ClientError:
                return False

        await until(asked, f"{name} to be ready")

    async def call(self, method, path, body=None, token=None, port_of="broker_gateway"):
        url = f"http://127.0.0.1:{self.ports[port_of]}{path}"
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with self.session.request(method, url, json=body, headers=headers) as response:
            raw = await response.read()
            return response.status, (json.loads(raw) if raw else None)

    async def deposit(self, request: Request):
        if self.wallet_away or request.headers.get("x-internal-token") != "between-us":
            return JSONResponse({"code": "away"}, 503)
        self.deposits.append(await request.json())
        return JSONResponse({}, 201)

    async def make(self, producer, frames):
        """Write so many more frames to the event log, the last one twice as a second matcher would."""
        for _ in range(frames):
            self.maker.step()
        topic = topics.events_topic(*NAMES)
        for frame in [*self.maker.frames[self.written :], self.maker.frames[-1]]:
            for value in encode_frame(frame, encode_events(frame.events)):
                await producer.send(topic, None, value, partition=0)
        self.written = len(self.maker.frames)

    def progress(self, reader, line):
        """What a client has and should have, for a failure's message."""
        have = {ticker: (reader.trades.get(ticker, [0])[-1], reader.seqs.get(ticker)) for ticker in self.maker.tickers}
        want = {ticker: (len(self.maker.trades[ticker]), self.maker.book_seq[ticker]) for ticker in self.maker.tickers}
        return f"have {have} of {want}, line {line}, heard last {reader.others[-2:]}"

    def is_complete(self, reader):
        """Whether a client has the maker's books and every trade from its first one on."""
        for ticker in self.maker.tickers:
            numbers = [trade[0] for trade in self.maker.trades[ticker]]
            if not numbers or reader.trades.get(ticker, [0])[-1] != numbers[-1]:
                return False
            if reader.books.get(ticker) != self.maker.naive_levels(ticker):
                return False
        return True


@asynccontextmanager
async def stand_in(name, routes, port):
    context = AppContext(name, load({"MYBROKER_NAMESPACE": "local", "MYBROKER_SESSION": "pregao"}))
    task = asyncio.create_task(serve(build_app(name, routes, context.readiness), "127.0.0.1", port, context))
    yield
    context.stopping.set()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def house(engines, tmp_path):
    async with aiohttp.ClientSession() as session:
        house = House(engines, tmp_path, session)
        specs = [*topics.SHARED_TOPICS, *topics.market_topics(*NAMES, 1)]
        await asyncio.to_thread(ensure_topics, engines.urls.kafka, specs)
        deposits = [Route("/deposits", house.deposit, methods=["POST"])]
        async with stand_in("wallet", deposits, house.ports["broker_wallet"]):
            try:
                yield house
            finally:
                for name in list(house.processes):
                    house.kill(name)


@pytest.fixture
async def producer(engines):
    producer = AsyncProducer(engines.urls.kafka)
    yield producer
    await producer.close()


def entry_of(maker):
    market = MarketEntry(
        name=NAMES[2],
        commands_topic=topics.commands_topic(*NAMES),
        events_topic=topics.events_topic(*NAMES),
        books_topic=topics.books_topic(*NAMES),
        shards=(ShardEntry(shard=0, tickers=maker.tickers),),
    )
    clock = SessionClock(anchor_wall_ns=time.time_ns(), anchor_session_ns=START_NS, speed=60)
    return DirectoryEntry(
        namespace=NAMES[0],
        session=NAMES[1],
        revision=1,
        business_date="2026-11-23",
        desired_state="Open",
        clock=clock,
        markets=(market,),
        participants=(),
    )


async def follow(house, reader, messages):
    url = f"http://127.0.0.1:{house.ports['broker_gateway']}/api/v1/stream"
    async with house.session.ws_connect(url) as line:
        for message in messages:
            await line.send_json(message)
        async for heard in line:
            if heard.type is aiohttp.WSMsgType.TEXT:
                reader.hear(heard.data)


async def test_a_client_of_the_stream_does_not_notice_that_the_feed_was_killed(house, producer):
    house.start("broker_gateway")
    house.start("b3_market_feed")
    await publish(producer, entry_of(house.maker))
    await house.make(producer, 50)
    await asyncio.gather(house.ready("broker_gateway"), house.ready("b3_market_feed"))

    early, late = Reader(), Reader()
    asked = [{"op": "subscribe", "channels": ["book", "trades", "phase"], "tickers": ["PETR4", "VALE3"]}]
    lines = [asyncio.create_task(follow(house, early, asked))]
    await house.make(producer, 50)
    await until(lambda: house.is_complete(early), "the first client to have everything")

    for _ in range(2):
        house.kill("b3_market_feed")
        for ticker in house.maker.tickers:  # so that the second start begins with books
            record = house.maker.record(ticker)
            await producer.send(topics.books_topic(*NAMES), ticker.encode(), encoded(record), partition=0)
        await house.make(producer, 60)
        house.start("b3_market_feed")
        await house.ready("b3_market_feed")
        await house.make(producer, 40)
        await until(lambda: house.is_complete(early), "the client to catch up", lambda: house.progress(early, lines[0]))
    lines.append(asyncio.create_task(follow(house, late, asked)))
    await until(lambda: house.is_complete(late), "the late client to have everything")

    for ticker in house.maker.tickers:
        numbers = early.trades[ticker]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "no trade is missing or doubled"
    status, candles = await house.call("GET", "/api/v1/candles/PETR4")
    assert status == 200
    assert sum(candle["trades"] for candle in candles["candles"]) == len(house.maker.trades["PETR4"])
    status, state = await house.call("GET", "/api/v1/state")
    assert [ticker["reference"] for ticker in state["tickers"]] == ["29.99", "29.99"]
    for line in lines:
        line.cancel()
    await asyncio.gather(*lines, return_exceptions=True)


def encoded(record):
    import msgspec

    return msgspec.json.encode(record)


async def test_a_user_registers_logs_in_refreshes_and_is_locked_out(house, engines):
    house.wallet_away = True
    for name in ("broker_gateway", "broker_identity"):
        house.start(name)
    await asyncio.gather(*(house.ready(name) for name in ("broker_gateway", "broker_identity")))
    credentials = {"username": "Maria", "password": "a long password"}

    status, registered = await house.call("POST", "/api/v1/auth/register", credentials)
    assert (status, registered["username"], registered["opening_paid"]) == (201, "maria", False)
    house.wallet_away = False
    deposit = await until(lambda: deposit_for(house, registered["account"]), "the opening balance to be paid")
    assert (deposit["cash"], deposit["shares"]) == ("100000.00", [])
    demo = next(one for one in house.deposits if one["shares"])
    assert (demo["cash"], len(demo["shares"])) == ("1000000.00", len(shipped_catalogue().instruments))

    for body, expected in [
        (credentials, (409, "username_taken")),
        ({"username": "jo", "password": "a long password"}, (422, "username_malformed")),
        ({"username": "joao", "password": "short"}, (422, "password_length")),
        ({"username": "joao"}, (422, "malformed_body")),
    ]:
        status, problem = await house.call("POST", "/api/v1/auth/register", body)
        assert (status, problem["code"]) == expected

    status, pair = await house.call("POST", "/api/v1/auth/token", credentials)
    assert (status, pair["account"], pair["scope"]) == (200, registered["account"], "read trade")
    status, next_pair = await house.call("POST", "/api/v1/auth/refresh", {"refresh_token": pair["refresh_token"]})
    assert status == 200
    status, problem = await house.call("POST", "/api/v1/auth/refresh", {"refresh_token": pair["refresh_token"]})
    assert (status, problem["code"]) == (401, "refresh_token_reused")
    status, problem = await house.call("POST", "/api/v1/auth/refresh", {"refresh_token": next_pair["refresh_token"]})
    assert (status, problem["code"]) == (401, "refresh_token_invalid"), "the whole family is revoked"

    wrong = {"username": "maria", "password": "another password"}
    codes = [(await house.call("POST", "/api/v1/auth/token", wrong))[1]["code"] for _ in range(5)]
    assert codes == ["credentials_invalid"] * 5
    status, problem = await house.call("POST", "/api/v1/auth/token", credentials)
    assert (status, problem["code"]) == (429, "account_locked")
    status, problem = await house.call("POST", "/api/v1/auth/token", {"username": "nobody", "password": "x"})
    assert (status, problem["code"]) == (401, "credentials_invalid")

    with psycopg.connect(engines.urls.postgres["identity"]) as connection:
        rows = connection.execute("select action from audit where username = 'maria' order by id").fetchall()
    assert [row[0] for row in rows] == [
        "registered",
        "logged_in",
        "refreshed",
        "refresh_reused",
        *["login_failed"] * 4,
        "locked",
        "login_failed",
    ]


def deposit_for(house, account):
    return next((one for one in house.deposits if one["account"] == account), None)


async def test_quotes_come_from_redis_and_without_it_from_the_database(house, producer, engines):
    for name in ("broker_gateway", "broker_assets"):
        house.start(name)
    await asyncio.gather(*(house.ready(name) for name in ("broker_gateway", "broker_assets")))
    now = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())

    async def send(price, updated_at, ticker="PETR4", **more):
        quote = Quote(
            ticker=ticker,
            price=price,
            source="simulated",
            updated_at=updated_at,
            received_at=now,
            session_key="local.pregao",
            **more,
        )
        await producer.send(topics.MARKET_DATA, ticker.encode(), encode_quote(quote))

    await producer.send(topics.MARKET_DATA, b"PETR4", b"no quote at all")
    await send("38.10", "2026-11-23T10:01:00-03:00")
    await send("38.00", "2026-11-23T10:00:00-03:00")
    await send("50.00", "2026-11-23T10:00:00-03:00", ticker="AXIA3", requested_ticker="ELET3", stale=True)

    async def quote(ticker):
        return (await house.call("GET", f"/api/v1/quotes/{ticker}"))[1]

    async def arrived():
        return (await quote("AXIA3")).get("price") == "50.00"

    await until(arrived, "the last quote to arrive")
    petr4 = await quote("PETR4F")
    assert (petr4["price"], petr4["stale"], petr4["source"]) == ("38.10", False, "simulated"), "an older one is no news"
    assert (await quote("ELET3"))["stale"] is True
    assert (await house.call("GET", "/api/v1/assets/ELET3"))[1]["aliases"] == ["ELET3"]
    assert [one["ticker"] for one in (await house.call("GET", "/api/v1/quotes"))[1]["quotes"]] == ["AXIA3", "PETR4"]
    status, problem = await house.call("GET", "/api/v1/quotes/VALE3")
    assert (status, problem["code"]) == (404, "no_quote")
    status, problem = await house.call("GET", "/api/v1/assets/NADA3")
    assert (status, problem["code"]) == (404, "unknown_instrument")

    engines.kill("redis")
    try:
        assert (await quote("PETR4"))["price"] == "38.10"
    finally:
        engines.restart("redis")
    status, assets = await house.call("GET", "/api/v1/assets")
    assert (status, len(assets["assets"])) == (200, len(shipped_catalogue().instruments))
