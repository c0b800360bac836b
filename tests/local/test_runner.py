"""The runner with real engines and the real exchange: killed, stopped, broken and changed while it runs.

Most tests share one session and leave it well; those that end a session have their own. The broker's services and
the ingestors are stand-ins here (`tests.local.idle_service`): what they do is for tests of their own.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mybroker.contracts.commands import PlaceOrder
from mybroker.contracts.directory import DirectoryEntry, decode_entry
from mybroker.contracts.door import DoorRequest, ExecutionReport, Sequenced
from mybroker.contracts.events import Event, PhaseChanged, SessionConfigured
from mybroker.contracts.frames import Frame, decode_frame_part
from mybroker.contracts.topics import BROKER_PARTICIPANT, SESSIONS, commands_topic, events_topic
from mybroker.domain.order import Side
from mybroker.domain.phase import Phase
from mybroker.local.engines.children import Identity
from mybroker.runtime import settings
from mybroker.runtime.door import open_door_client
from mybroker.runtime.frames import FrameSequence
from mybroker.runtime.kafka import read_from
from services.b3_matcher.replay import replay
from tests.local.running import BUSY_EXIT_CODE, Running, until

pytestmark = [pytest.mark.engines, pytest.mark.timeout(280)]

GONE_WITHIN_S = 5.0
GATEWAY_PORT = 18_280
MANIFEST = """\
apiVersion: markets.mybroker.dev/v1alpha1
kind: MarketSession
metadata: {{name: {name}}}
spec:
  roll: None
  date: 2026-11-23
  hours: {{preset: b3-summer}}
  clock: {{mode: Simulated, speed: {speed}}}
  desiredState: Open
  markets:
  - {{name: equities, instruments: [{tickers}], shards: {shards}, rules: {{profile: b3-equities}}}}
{more_markets}
  ingestors: {{source: Simulated, minReplicas: {ingestors}, maxReplicas: 4, symbolsPerReplica: 20}}
  participants: {{marketMakers: 0, noiseTraders: 0, seed: 7}}
"""


def manifest(
    name: str,
    *,
    speed: int = 10,
    tickers: str = "PETR4, VALE3",
    shards: int = 1,
    more_markets: str = "",
    ingestors: int = 1,
) -> str:
    return MANIFEST.format(
        name=name, speed=speed, tickers=tickers, shards=shards, more_markets=more_markets, ingestors=ingestors
    )


@pytest.fixture(scope="module")
def homes() -> Iterator[Path]:
    """A folder that PostgreSQL's ordinary user can reach (pytest's own is closed to others)."""
    folder = Path(tempfile.mkdtemp(prefix="mybroker-runner-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def shared(homes: Path) -> Iterator[Running]:
    path = homes / "shared.yaml"
    path.write_text(manifest("shared", shards=2))
    began_s = time.monotonic()
    running = Running(path, homes / "shared", session="local.shared", gateway_port=GATEWAY_PORT)
    try:
        running.wait_until_running()
        print(f"\nengines and processes ready in {time.monotonic() - began_s:.1f} s")
        yield running
    finally:
        running.close()


# -- what the logs say -------------------------------------------------------------------------------------------------


def kafka_of(running: Running) -> str:
    return running.record().engines["MYBROKER_KAFKA_URL"]


def names_of(running: Running, market: str) -> tuple[str, str, str]:
    namespace, _, session = running.folder.session_key.partition(".")
    return namespace, session, market


def frames_of(running: Running, market: str = "equities", shard: int = 0) -> list[Frame]:
    topic = events_topic(*names_of(running, market))
    sequence = FrameSequence(topic)
    parts = (decode_frame_part(record.value or b"") for record in read_from(kafka_of(running), topic, shard, 0))
    return [frame for part in parts if (frame := sequence.hear(part)) is not None]


def events_of(running: Running, market: str = "equities", shard: int = 0) -> list[Event]:
    return [event for frame in frames_of(running, market, shard) for event in frame.events]


def directory_of(running: Running) -> DirectoryEntry:
    records = list(read_from(kafka_of(running), SESSIONS, 0, 0))
    newest = [record for record in records if record.key == running.folder.session_key.encode()][-1]
    return decode_entry(newest.value or b"")


def check_replay(running: Running, market: str = "equities", shard: int = 0) -> None:
    names = names_of(running, market)
    result = replay(kafka_of(running), commands_topic(*names), events_topic(*names), shard)
    assert result.difference is None
    assert result.quarantined == 0


def wait_until_gone(everybody: list[Identity], *, within_s: float) -> float:
    """Wait until these very processes are gone, by id and start time; return how long it took."""
    began_s = time.monotonic()
    left = everybody
    while left := [identity for identity in left if identity.is_running()]:
        if time.monotonic() > began_s + within_s:
            who = [Path(f"/proc/{identity.pid}/cmdline").read_text().replace("\0", " ")[-80:] for identity in left]
            raise AssertionError(f"still there after {within_s:g} s: {who}")
        time.sleep(0.02)
    return time.monotonic() - began_s


# -- life of a session -------------------------------------------------------------------------------------------------


def test_a_killed_runner_leaves_nothing_and_the_next_goes_on_with_the_same_day_until_it_is_stopped(
    homes: Path,
) -> None:
    path = homes / "killed.yaml"
    path.write_text(manifest("killed", speed=60))
    running = Running(path, homes / "killed", session="local.killed", gateway_port=GATEWAY_PORT + 10)
    try:
        running.wait_until_running()
        until("the clock runs", lambda: running.matcher("equities-0").get("seq", 0) > 20)
        log_id, before = frames_of(running)[0].log_id, running.matcher("equities-0")
        clock_before = directory_of(running).clock
        everybody = running.everybody()
        running.kill()
        took_s = wait_until_gone(everybody, within_s=4 * GONE_WITHIN_S)
        print(f"\nSIGKILL of the runner: {len(everybody)} processes gone after {took_s:.1f} s")

        running.start()
        running.wait_until_running()
        until("the clock goes on", lambda: running.matcher("equities-0").get("at_ns", 0) > before["at_ns"])
        frames = frames_of(running)
        assert {frame.log_id for frame in frames} == {log_id}
        assert len(frames) > before["seq"]
        assert [frame.at_ns for frame in frames] == sorted(frame.at_ns for frame in frames), "time jumped back"
        clock = directory_of(running).clock
        assert clock.anchor_session_ns >= clock_before.anchor_session_ns
        highest_then = max(frame.at_ns for frame in frames if frame.seq <= before["seq"])
        assert highest_then <= clock.anchor_session_ns <= highest_then + 60 * 5 * 10**9, (
            "it goes on at the highest tick"
        )
        check_replay(running)

        everybody = running.everybody()
        snapshots = running.folder.path / "snapshots" / "equities-0"
        older = {file.name for file in snapshots.glob("*.snapshot")}
        assert running.stop(signal.SIGTERM) == 0, "a stop that was asked for ends well"
        wait_until_gone(everybody, within_s=1.0)
        assert {file.name for file in snapshots.glob("*.snapshot")} - older, "the matcher left no snapshot"
        assert running.folder.record() is None
        assert not running.folder.processes.exists()
    finally:
        running.close()


def test_ctrl_c_while_the_engines_start_leaves_nothing_either(homes: Path) -> None:
    path = homes / "early.yaml"
    path.write_text(manifest("early"))
    running = Running(path, homes / "early", session="local.early", gateway_port=GATEWAY_PORT + 20)
    try:
        until("the engines start", lambda: len(running.everybody()) > 3)
        everybody = running.everybody()
        assert running.stop(signal.SIGINT) == 0
        wait_until_gone(everybody, within_s=1.0)
    finally:
        running.close()


# -- what dies is started again ----------------------------------------------------------------------------------------


def test_every_process_that_is_killed_is_started_again_and_a_matcher_answers_soon(shared: Running) -> None:
    names = sorted(shared.status()["processes"])
    assert {"matcher/equities-0", "matcher/equities-1", "b3/order_entry", "broker/gateway"} <= set(names)
    before = {name: facts["restarts"] for name, facts in shared.status()["processes"].items()}
    epoch = shared.matcher("equities-0")["epoch"]
    assert shared.ask("/processes/matcher/equities-0/kill", {})[0] == 200
    killed_s = time.monotonic()
    until("the matcher owns its shard again", lambda: shared.matcher("equities-0").get("epoch", -1) > epoch)
    seq = shared.matcher("equities-0")["seq"]
    until("it answers commands again", lambda: shared.matcher("equities-0").get("seq", 0) > seq, within_s=15)
    print(f"\na killed matcher answered again after {time.monotonic() - killed_s:.2f} s")
    for name in names:
        if name != "matcher/equities-0":
            assert shared.ask(f"/processes/{name}/kill", {})[0] == 200
    until("all are back", lambda: shared.is_running_well(*names))
    after = {name: facts["restarts"] for name, facts in shared.status()["processes"].items()}
    assert {name for name in names if after[name] <= before[name]} == set(), "these were not started again"
    check_replay(shared)


@pytest.mark.parametrize("engine", ["kafka", "postgres"])
def test_an_engine_that_is_killed_is_started_again_and_the_services_reconnect(shared: Running, engine: str) -> None:
    ended = len(shared.told("engine_ended"))
    assert shared.ask(f"/engines/{engine}/kill", {})[0] == 200
    until("the runner has seen it", lambda: len(shared.told("engine_ended")) > ended)
    until("the engine is back", lambda: (shared.status()["engines"].get(engine) or {}).get("ok"))
    seq = shared.matcher("equities-0").get("seq", 0)
    until("the market goes on", lambda: shared.matcher("equities-0").get("seq", 0) > seq + 5)
    until("all are well", shared.is_running_well)
    asyncio.run(order_through_the_door(shared, f"after-{engine}"))
    check_replay(shared)


# -- the manifest ------------------------------------------------------------------------------------------------------


def test_a_changed_manifest_applies_while_running_and_a_wrong_one_does_not(shared: Running) -> None:
    def change(text: str) -> None:
        fresh = shared.manifest.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(shared.manifest)

    matcher_pid = shared.status()["processes"]["matcher/equities-0"]["pid"]
    change(manifest("shared", shards=2, ingestors=2))
    until("there is a second ingestor", lambda: shared.is_running_well("ingestor/fetch-0", "ingestor/fetch-1"))

    change(manifest("shared", shards=2, ingestors=2, tickers="PETR4, VALE3, WEGE3"))
    until("the directory knows WEGE3", lambda: directory_of(shared).find("WEGE3"))
    found = directory_of(shared).find("WEGE3")
    assert found is not None
    shard = found[1].shard

    def configured() -> bool:
        events = events_of(shared, shard=shard)
        return any(isinstance(event, SessionConfigured) and "WEGE3" in event.tickers for event in events)

    until("the engine knows WEGE3", configured)

    more = "  - {name: fractional, instruments: [PETR4F], rules: {profile: b3-fractional}}"
    good = manifest("shared", shards=2, ingestors=1, tickers="PETR4, VALE3, WEGE3", more_markets=more)
    change(good)
    until("the new market runs", lambda: shared.is_running_well("matcher/fractional-0"))
    until("the ingestor is gone", lambda: "ingestor/fetch-1" not in shared.status()["processes"])
    until("it has frames", lambda: frames_of(shared, "fractional"))
    assert shared.status()["processes"]["matcher/equities-0"]["pid"] == matcher_pid, "nobody else was disturbed"

    refused = len(shared.told("manifest_refused"))
    change(good.replace("shards: 2", "shards: 0"))
    until("it is refused", lambda: len(shared.told("manifest_refused")) > refused)
    assert "spec.markets[0].shards: expected" in shared.told("manifest_refused")[-1]["why"]
    change("{" + good)
    until("it is refused too", lambda: len(shared.told("manifest_refused")) > refused + 1)
    change(good.replace("name: shared", "name: other"))
    until("another name is refused", lambda: len(shared.told("manifest_refused")) > refused + 2)
    assert "metadata.name: expected local.shared, was local.other" in shared.told("manifest_refused")[-1]["why"]
    assert shared.is_running_well("matcher/fractional-0", "matcher/equities-1"), "the last good one stays"

    change(good.replace("shards: 2", "shards: 1"))
    until("fewer shards are refused", lambda: "shards only grow" in shared.condition("Degraded").get("message", ""))
    assert "spec.markets[0].shards: expected 2 or more" in shared.condition("Degraded")["message"]
    assert shared.is_running_well("matcher/equities-1")
    change(good)
    until("the complaint is gone", lambda: "shards" not in shared.condition("Degraded").get("message", ""))


# -- other runners -----------------------------------------------------------------------------------------------------


def test_a_busy_folder_is_refused_with_who_has_it_and_where(shared: Running) -> None:
    with tempfile.TemporaryFile() as output:
        assert shared.another(output).wait(60) == BUSY_EXIT_CODE
        output.seek(0)
        said = output.read().decode()
    assert f"session local.shared runs already: process {shared.process.pid}" in said
    assert shared.record().gateway_url in said
    shared.assert_alive()


def test_two_sessions_side_by_side_do_not_meet(shared: Running, homes: Path) -> None:
    path = homes / "beside.yaml"
    path.write_text(manifest("beside", tickers="ITUB4"))
    beside = Running(path, homes / "beside", session="local.beside", gateway_port=GATEWAY_PORT)
    try:
        beside.wait_until_running()
        urls = beside.record().engines, shared.record().engines
        assert not set(urls[0].values()) & set(urls[1].values()) - {""}, "they share an engine"
        ports = [set(json.loads(one.folder.state.read_text())["ports"].values()) for one in (beside, shared)]
        assert not ports[0] & ports[1]
        keys = [{record.key for record in read_from(kafka_of(one), SESSIONS, 0, 0)} for one in (beside, shared)]
        assert keys == [{b"local.beside"}, {b"local.shared"}]
        assert beside.folder.internal_token() != shared.folder.internal_token()
        assert beside.ask("/status", url=shared.record().control_url)[0] == 401

        # Both asked for the same gateway port: the later one got the next, and says so.
        assert beside.record().gateway_url == f"http://127.0.0.1:{GATEWAY_PORT + 1}"
        assert beside.told("gateway_port_taken") == [{"wanted": GATEWAY_PORT, "chosen": GATEWAY_PORT + 1}]

        everybody = beside.everybody()
        assert beside.stop() == 0
        wait_until_gone(everybody, within_s=1.0)
        assert shared.is_running_well(), "the end of one was felt by the other"
    finally:
        beside.close()


# -- through the door, and the supervisor ------------------------------------------------------------------------------


async def order_through_the_door(running: Running, order_id: str) -> None:
    """Place an order as the broker does, by the route the session has, and wait until it is answered."""
    namespace, session, _ = names_of(running, "equities")
    urls = dict(running.record().engines)
    assert not urls.get("MYBROKER_RABBIT_URL"), "RabbitMQ is switched off here"
    known = settings.load({"MYBROKER_NAMESPACE": namespace, "MYBROKER_SESSION": session} | urls)
    order = PlaceOrder(
        participant=BROKER_PARTICIPANT,
        account="A",
        order_id=order_id,
        ticker="PETR4",
        side=Side.BUY,
        quantity_shares=100,
        price_ticks=3000,
    )
    request = DoorRequest(
        participant=BROKER_PARTICIPANT, session_key=f"{namespace}.{session}", message_id=order_id, body=order
    )
    client = await open_door_client(known, BROKER_PARTICIPANT)
    heard: set[type] = set()
    try:
        async with asyncio.timeout(60):
            await client.send(request)
            async for delivery in client.replies():
                await delivery.ack()
                if getattr(delivery.message, "order_id", None) == order_id:
                    heard.add(type(delivery.message))
                if heard >= {Sequenced, ExecutionReport}:
                    return
    finally:
        await client.close()


def test_without_rabbitmq_orders_pass_by_the_kafka_route(shared: Running) -> None:
    notes = {note["engine"]: note["note"] for note in shared.told("engine_note")}
    assert "order entry uses its Kafka route" in notes["rabbit"]
    asyncio.run(order_through_the_door(shared, "by-kafka"))


def test_the_supervisor_halts_and_resumes_through_http_and_the_frames_show_it(shared: Running) -> None:
    url = shared.url("b3/surveillance")
    found = directory_of(shared).find("PETR4")
    assert found is not None
    shard = found[1].shard

    def phases() -> list[Phase]:
        events = events_of(shared, shard=shard)
        return [event.phase for event in events if isinstance(event, PhaseChanged) and event.ticker == "PETR4"]

    halted = len(phases())
    code, body = shared.ask("/orders", {"act": "halt", "ticker": "PETR4", "command_id": "halt-1"}, url=url)
    assert (code, body["placed"][0]["shard"]) == (202, shard)
    until("the frames show the halt", lambda: phases()[halted:][:1] == [Phase.HALTED])
    code, _ = shared.ask("/orders", {"act": "resume", "ticker": "PETR4", "command_id": "resume-1"}, url=url)
    assert code == 202
    until("the frames show the end of the halt", lambda: len(phases()) > halted + 1)
    assert phases()[-1] is not Phase.HALTED

    code, body = shared.ask("/orders", {"act": "halt", "ticker": "PETR4"}, url=url, token="wrong")
    assert (code, body["code"]) == (401, "internal_token_invalid")
    code, body = shared.ask("/orders", {"act": "halt", "ticker": "XXXX3"}, url=url)
    assert (code, body["code"]) == (409, "unknown_instrument")
    assert "expected a ticker of local.shared, was XXXX3" in body["detail"]
    code, body = shared.ask("/orders", {"act": "explode"}, url=url)
    assert code == 422
    assert len(phases()) == halted + 2, "what was refused did nothing"
