"""The matcher on a real Kafka, killed at any moment: every command has one frame, and a replay finds no difference.

One broker for the module, a session of its own for each test. What makes the difference is shown by a matcher that
does it wrong, beside the test that the right one passes.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from mybroker.contracts.commands import CancelOrder, Command, PlaceOrder, ReplaceOrder
from mybroker.contracts.events import CommandIgnored, OrderAccepted, OwnerChanged, Quarantined
from mybroker.domain.order import Side
from mybroker.runtime.frames import SequenceGap
from mybroker.runtime.kafka import read_from
from services.b3_matcher.engine.engine import ENGINE_VERSION
from services.b3_matcher.shard import Shard
from services.b3_matcher.snapshots import SnapshotFolder, SnapshotHeader
from tests.matcher.kafka_market import TICKERS, EngineAlone, KafkaMarket, Service, kafka_alone, until
from tests.matcher.saboteurs import FRAMES_SENT, OFTEN_EVERY_COMMANDS, POISON

pytestmark = [pytest.mark.engines, pytest.mark.timeout(180)]

PARTICIPANTS = ("P1", "P2", "P3")


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineAlone]:
    kafka = kafka_alone(tmp_path_factory.mktemp("kafka"))
    yield kafka
    kafka.stop()


@pytest.fixture
def market(kafka: EngineAlone, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[KafkaMarket]:
    session = "t" + str(abs(hash(request.node.name)) % 10**9)
    market = KafkaMarket(kafka.url, tmp_path, session=session)
    yield market
    market.close()


class Flow:
    """Orders, cancels and replaces of several participants, by a seed; some are sent twice, as a door may."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._placed: list[tuple[str, str, str]] = []
        self._revision: dict[str, int] = {}
        self._number = 0

    def take(self, count: int) -> list[Command]:
        commands: list[Command] = []
        while len(commands) < count:
            command = self._next()
            commands.append(command)
            if self._random.random() < 0.03:
                commands.append(command)
        return commands

    def _next(self) -> Command:
        pick = self._random
        if self._placed and pick.random() < 0.35:
            participant, order_id, ticker = pick.choice(self._placed[-40:])
            revision = self._revision[order_id] = self._revision.get(order_id, 1) + 1
            if pick.random() < 0.5:
                return CancelOrder(participant=participant, order_id=order_id, revision=revision, ticker=ticker)
            return ReplaceOrder(
                participant=participant,
                order_id=order_id,
                revision=revision,
                ticker=ticker,
                price_ticks=2990 + pick.randrange(21),
            )
        self._number += 1
        participant, ticker = pick.choice(PARTICIPANTS), pick.choice(TICKERS)
        order_id = f"{participant}-{self._number}"
        self._placed.append((participant, order_id, ticker))
        return PlaceOrder(
            participant=participant,
            account=participant,
            order_id=order_id,
            ticker=ticker,
            side=pick.choice((Side.BUY, Side.SELL)),
            quantity_shares=100 * pick.randrange(1, 6),
            price_ticks=2990 + pick.randrange(21),
        )


def wait_until_open(market: KafkaMarket, matcher: Service) -> None:
    matcher.wait_ready()
    until("the market is open", lambda: (matcher.get("/state")[1] or {}).get("phase") == "open")


def check_logs(market: KafkaMarket, matcher: Service) -> None:
    """Stop the last owner and compare everything it leaves with a fresh replay of the command log."""
    market.come_to_rest(matcher)
    assert matcher.terminate() == 0, matcher.tail()
    result = market.replay()
    assert result.difference is None
    assert result.in_flight == 0, "a command has no frame"
    assert result.frames == result.frames_in_log == result.commands == market.command_count()
    assert result.quarantined == 0
    frames = market.frames()
    assert [frame.seq for frame in frames] == list(range(1, len(frames) + 1))
    assert [frame.offset for frame in frames] == list(range(len(frames)))
    assert frames[-1].digest == result.digest
    newest = next(SnapshotFolder(market.snapshots).newest_first()).header
    assert (newest.seq, newest.digest, newest.state_hash) == (result.frames, result.digest, result.state_hash)
    assert result.hashes_compared > 0


# -- killed at any moment ----------------------------------------------------------------------------------------------


def test_whatever_is_killed_every_command_has_one_frame_and_a_replay_agrees(
    kafka: EngineAlone, market: KafkaMarket
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    chance = random.Random(seed)
    flow = Flow(seed)
    matcher = market.matcher("snapshots_often")
    wait_until_open(market, matcher)
    kills = zombies = broker_kills = 0
    began_s = time.monotonic()
    next_blow_s = began_s + 0.5
    while kills + zombies < 14:
        market.post(flow.take(20))
        time.sleep(0.02)
        now_s = time.monotonic()
        assert now_s < began_s + 90, "the blows took too long"
        if now_s < next_blow_s:
            continue
        next_blow_s = now_s + chance.uniform(0.2, 1.6)
        if kills + zombies >= 7 and not broker_kills:
            broker_kills = 1
            kafka.kill()
            market.post(flow.take(50))
            kafka.start()
        elif chance.random() < 0.3:
            zombies += 1  # both run until the earlier one meets the later one's TakeOver
            matcher = market.matcher("snapshots_often")
        else:
            kills += 1
            matcher.kill()
            matcher = market.matcher("snapshots_often")
    market.settle()
    matcher.wait_ready(within_s=90)
    check_logs(market, matcher)
    result = market.replay()
    print(
        f"\nseed {seed}: {result.commands} commands, {kills} kills, {zombies} zombies, {broker_kills} broker kill,"
        f" {result.repeated_frames} repeated frames, {result.trades} trades, {result.duplicates} duplicates"
    )
    assert result.trades > 0
    assert result.duplicates > 0


def test_a_killed_matcher_answers_the_next_order_soon(market: KafkaMarket) -> None:
    flow = Flow(1)
    matcher = market.matcher("snapshots_often")
    wait_until_open(market, matcher)
    market.send(flow.take(3_000))
    until("all commands are answered", lambda: market.caught_up(matcher))
    matcher.kill()
    killed_s = time.monotonic()
    again = market.matcher("snapshots_often")
    market.send(flow.take(1))
    until("the next order is answered", lambda: market.caught_up(again), within_s=60)
    print(f"\nkilled matcher answered again after {time.monotonic() - killed_s:.2f} s")
    check_logs(market, again)


# -- where it starts from ----------------------------------------------------------------------------------------------


def test_it_recovers_from_each_snapshot_and_passes_over_those_it_cannot_trust(market: KafkaMarket) -> None:
    flow = Flow(2)
    matcher = market.matcher("snapshots_often")
    wait_until_open(market, matcher)
    for _ in range(4):
        market.send(flow.take(OFTEN_EVERY_COMMANDS))
        until("all commands are answered", lambda: market.caught_up(matcher))
    check_logs(market, matcher)
    kept = sorted(market.snapshots.glob("*.snapshot"), reverse=True)
    assert len(kept) == 3
    saved = market.folder / "kept"
    shutil.copytree(market.snapshots, saved)

    def damage_newest() -> None:
        damaged = bytearray(kept[0].read_bytes())
        damaged[-10] ^= 1
        kept[0].write_bytes(damaged)

    stories: dict[str, tuple[Callable[[], object], int | None]] = {
        "newest": (lambda: None, 0),
        "second": (kept[0].unlink, 1),
        "third": (partial(remove, kept[:2]), 2),
        "none": (lambda: shutil.rmtree(market.snapshots), None),
        "newest damaged": (damage_newest, 1),
        "newest ahead of the event log": (lambda: write_snapshot_ahead(market, flow), 0),
    }
    for story, (prepare, expected) in stories.items():
        shutil.rmtree(market.snapshots)
        shutil.copytree(saved, market.snapshots)
        tail = len(market.frames())
        prepare()
        again = market.matcher()
        again.wait_ready()
        started_from = 0 if expected is None else int(kept[expected].stem)
        assert again.metric("mbb3_frames_suppressed_total") == tail - started_from, f"{story}: {again.tail()}"
        check_logs(market, again)


def remove(files: list[Path]) -> None:
    for file in files:
        file.unlink()


def write_snapshot_ahead(market: KafkaMarket, flow: Flow) -> None:
    """Leave a right snapshot of commands that nobody has answered yet."""
    market.send(flow.take(20))
    shard = Shard()
    for record in read_from(market.url, market.commands, 0, 0):
        shard.apply(record.offset, record.value or b"")
    header = SnapshotHeader(
        format=1,
        engine_version=ENGINE_VERSION,
        log_id=shard.engine.log_id or "",
        seq=shard.seq,
        next_offset=shard.next_offset,
        event_offset=0,
        digest=shard.digest,
        state_hash=shard.engine.state_hash(),
    )
    SnapshotFolder(market.snapshots).write(header, shard.dump())


# -- who owns the shard ------------------------------------------------------------------------------------------------


def test_the_later_take_over_wins_and_the_earlier_process_exits(market: KafkaMarket) -> None:
    first = market.matcher()
    wait_until_open(market, first)
    second = market.matcher()
    assert first.ended() == 1, "it lost the shard, so it must not look like a clean end"
    wait_until_open(market, second)
    market.send(Flow(3).take(50))
    check_logs(market, second)
    owners = [event for frame in market.frames() for event in frame.events if isinstance(event, OwnerChanged)]
    assert len(owners) == 2
    ticks_of_the_first_after_its_loss = [
        event
        for frame in market.frames()
        for event in frame.events
        if isinstance(event, CommandIgnored) and event.command == "tick"
    ]
    assert len(ticks_of_the_first_after_its_loss) < 5, "it went on writing after it had lost the shard"


def test_another_engine_version_is_refused_and_says_what_to_do(market: KafkaMarket) -> None:
    matcher = market.matcher()
    wait_until_open(market, matcher)
    market.send(Flow(4).take(50))
    check_logs(market, matcher)
    commands, events = market.command_count(), len(market.event_records())

    other = market.matcher("next_engine_version")
    until("it says why", lambda: (other.get("/state")[1] or {}).get("message"))
    state = other.get("/state")[1]
    assert state["message"].startswith(f"engine version: expected {ENGINE_VERSION}, was {ENGINE_VERSION + 1}; ")
    assert "mybroker up --new-day" in state["message"]
    assert not other.is_ready()
    assert (market.command_count(), len(market.event_records())) == (commands, events), "it wrote into the logs"
    assert other.terminate() == 0

    again = market.matcher()
    again.wait_ready()
    check_logs(market, again)


# -- what it must survive ----------------------------------------------------------------------------------------------


def test_a_record_that_is_no_command_has_its_frame_and_harms_nobody(market: KafkaMarket) -> None:
    matcher = market.matcher()
    wait_until_open(market, matcher)
    before = market.command_count()
    garbage = [b"\xff\xfe\x00", b"", b'["new"]', b'["launch", {}]', b'["new", {"participant": 7}]', b"[" * 5_000]
    garbage += [b'["tick", {"epoch": 1, "at_ns": ' + b"9" * 60 + b"}]"]
    market.send([*garbage, *Flow(5).take(30)])
    check_logs(market, matcher)
    ignored = [
        event
        for frame in market.frames()
        for event in frame.events
        if frame.offset >= before and isinstance(event, CommandIgnored) and event.command == "malformed"
    ]
    assert len(ignored) == len(garbage) - 1, "all but the tick of a far future, which is a command"


def test_a_command_the_engine_fails_on_stops_one_instrument_and_never_the_matcher(market: KafkaMarket) -> None:
    matcher = market.matcher("fails_on_poison")
    wait_until_open(market, matcher)
    poison = PlaceOrder(
        participant="P1",
        account="A",
        order_id=f"{POISON}-1",
        ticker="PETR4",
        side=Side.BUY,
        quantity_shares=100,
        price_ticks=3000,
    )

    def placed(order_id: str, ticker: str) -> Command:
        return PlaceOrder(
            participant="P2",
            account="A",
            order_id=order_id,
            ticker=ticker,
            side=Side.SELL,
            quantity_shares=100,
            price_ticks=3000,
        )

    market.send([*Flow(6).take(200), poison, placed("after-petr", "PETR4"), placed("after-vale", "VALE3")])
    until("all commands are answered", lambda: market.caught_up(matcher))
    assert matcher.metric("mbb3_quarantined_total") == 1
    matcher.kill()

    again = market.matcher("fails_on_poison")
    wait_until_open(market, again)
    until("all commands are answered", lambda: market.caught_up(again))
    events = [event for frame in market.frames() for event in frame.events]
    quarantined = [event for event in events if isinstance(event, Quarantined)]
    assert [(event.ticker, event.command, event.error) for event in quarantined] == [
        ("PETR4", "new", "ZeroDivisionError")
    ]
    accepted = {event.order.order_id for event in events if isinstance(event, OrderAccepted)}
    assert "after-vale" in accepted, "the other instrument trades on"
    assert not accepted & {f"{POISON}-1", "after-petr"}, "the effects are undone and the instrument stands"
    assert again.is_ready()
    assert again.metric("mbb3_instruments_quarantined") == 1, "the alarm is up after a restart too"
    assert again.get("/state")[1]["quarantined"] == ["PETR4"]


def has_diverged(matcher: Service) -> bool:
    return matcher.metric("mbb3_shard_diverged") == 1


@pytest.mark.parametrize("place", ["a frame that is there", "a frame yet to come", "no frame at all"])
def test_a_falsified_event_log_makes_the_shard_stand_still(market: KafkaMarket, place: str) -> None:
    matcher = market.matcher()
    wait_until_open(market, matcher)
    market.send(Flow(7).take(50))
    check_logs(market, matcher)
    shutil.rmtree(market.snapshots)
    last = json.loads(market.event_records()[-1].value or b"")
    match place:
        case "a frame that is there":
            market.append_event(json.dumps(last | {"digest": "f" * 32}).encode())
        case "a frame yet to come":
            market.append_event(json.dumps(last | {"seq": last["seq"] + 1, "digest": "f" * 32}).encode())
        case _:
            market.append_event(b"not a frame")
    events = len(market.event_records())

    for _ in range(2):  # a restart does not write over it either
        stands = market.matcher()
        until("the alarm is up", partial(has_diverged, stands))
        assert not stands.is_ready()
        assert stands.process.poll() is None, "it must stay, so that nothing restarts it"
        assert stands.get("/state")[1]["message"]
        assert len(market.event_records()) == events
        stands.kill()


# -- negative controls -------------------------------------------------------------------------------------------------


def snapshot_before_its_frames(market: KafkaMarket, first_role: str, second_role: str | None) -> Service:
    """Run a matcher that dies just after a snapshot whose frames were held back, then another one."""
    first = market.matcher(first_role, MYBROKER_KILL_AT="matcher.snapshot_written:2")
    until("the first one has started", lambda: first.process.poll() is not None or first.is_ready())
    flow = Flow(8)
    while first.process.poll() is None:
        market.send(flow.take(20))
        time.sleep(0.02)
    assert first.process.poll() == -9
    heard = len(market.event_records())
    newest = next(SnapshotFolder(market.snapshots).newest_first()).header
    assert heard <= FRAMES_SENT < newest.seq, "the sabotage did not come about"
    second = market.matcher(second_role)
    second.wait_ready()
    market.send(flow.take(20))
    until("all commands are answered", lambda: market.caught_up(second))
    return second


def test_without_waiting_for_delivery_frames_are_lost_and_the_reader_says_so(market: KafkaMarket) -> None:
    snapshot_before_its_frames(market, "naive", "trusting")
    with pytest.raises(SequenceGap, match=r"expected seq \d+, was"):
        market.frames()
    difference = market.replay().difference
    assert difference is not None
    assert "expected seq" in difference.was


def test_a_snapshot_ahead_of_its_frames_is_not_believed_even_if_one_was_written(market: KafkaMarket) -> None:
    check_logs(market, snapshot_before_its_frames(market, "snapshots_before_delivery", None))
