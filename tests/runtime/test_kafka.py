"""Kafka with the house settings, on a real broker, killed and restarted on the way."""

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence

import pytest
from confluent_kafka import KafkaException

from mybroker.contracts.directory import DirectoryEntry, MarketEntry, SessionClock, ShardEntry
from mybroker.contracts.events import Event
from mybroker.contracts.frames import Frame, encode_events, encode_frame
from mybroker.contracts.topics import SHARED_TOPICS, TopicSpec
from mybroker.local.engines.facade import Engines
from mybroker.runtime import directory as directory_module
from mybroker.runtime.clock import ManualClock
from mybroker.runtime.directory import Directory
from mybroker.runtime.frames import FrameBatch, FramePosition, FrameReader, SequenceGap, find_offset
from mybroker.runtime.kafka import AsyncProducer, Record, ensure_topics, read_from, watermarks
from mybroker.runtime.kafka_consumer import ConsumerLoop

pytestmark = pytest.mark.engines


async def until(condition: Callable[[], bool], deadline_s: float = 30) -> None:
    async with asyncio.timeout(deadline_s):
        while not condition():
            await asyncio.sleep(0.01)


def new_topic(kafka_url: str, partitions: int = 1) -> str:
    topic = TopicSpec(name=f"test-{uuid.uuid4().hex}", partitions=partitions)
    ensure_topics(kafka_url, [topic])
    return topic.name


async def fill(kafka_url: str, topic: str, values: Sequence[bytes], partition: int = 0) -> None:
    producer = AsyncProducer(kafka_url)
    await asyncio.gather(*(producer.send(topic, None, value, partition=partition) for value in values))
    assert await producer.close() == 0


def test_topics_are_made_once_and_a_lack_of_partitions_is_an_error(kafka_url: str) -> None:
    spec = TopicSpec(name=f"test-{uuid.uuid4().hex}", partitions=2, compacted=True)
    ensure_topics(kafka_url, [spec, *SHARED_TOPICS])
    ensure_topics(kafka_url, [spec])
    with pytest.raises(ValueError, match="expected 3 partitions, was 2"):
        ensure_topics(kafka_url, [TopicSpec(name=spec.name, partitions=3)])


async def test_a_send_tells_where_the_message_is_and_keeps_the_order(kafka_url: str) -> None:
    topic = new_topic(kafka_url)
    producer = AsyncProducer(kafka_url)
    sent = await asyncio.gather(
        *(producer.send(topic, b"k", str(n).encode(), [("n", str(n).encode())], 0) for n in range(2_000))
    )
    assert [where.offset for where in sent] == list(range(2_000))
    records = await asyncio.to_thread(lambda: list(read_from(kafka_url, topic, 0, 1_990)))
    assert [(r.offset, r.value, r.headers) for r in records] == [
        (n, str(n).encode(), [("n", str(n).encode())]) for n in range(1_990, 2_000)
    ]
    assert watermarks(kafka_url, topic, 0) == (0, 2_000)
    assert list(read_from(kafka_url, topic, 0, 2_000)) == []
    assert [r.offset for r in read_from(kafka_url, topic, 0, 5, until=7)] == [5, 6]
    await producer.close()


async def test_thousands_of_sends_a_second_are_confirmed(kafka_url: str) -> None:
    topic = new_topic(kafka_url)
    producer = AsyncProducer(kafka_url)
    await producer.send(topic, None, b"warm")
    began = time.perf_counter()
    await asyncio.gather(*(producer.send(topic, b"k", b"x" * 200) for _ in range(10_000)))
    elapsed_s = time.perf_counter() - began
    await producer.close()
    print(f"10,000 confirmed sends in {elapsed_s:.2f} s")
    assert elapsed_s < 10


async def test_a_loop_reads_from_positions_and_says_when_it_caught_up_after_handling(kafka_url: str) -> None:
    topic = new_topic(kafka_url)
    await fill(kafka_url, topic, [str(n).encode() for n in range(100)])
    heard: list[int] = []
    caught_up: list[int] = []

    async def handle(records: Sequence[Record]) -> None:
        await asyncio.sleep(0.05)
        heard.extend(record.offset for record in records)

    loop = ConsumerLoop(
        kafka_url, handle, positions={(topic, 0): 40}, on_caught_up=lambda *_: caught_up.append(len(heard))
    )
    task = asyncio.create_task(loop.run())
    await until(lambda: bool(caught_up))
    assert caught_up[0] == 60
    await fill(kafka_url, topic, [b"later"])
    await until(lambda: len(heard) == 61)
    loop.stop()
    await task
    assert heard == list(range(40, 101))


@pytest.mark.parametrize("sole_member", [True, False])
async def test_what_was_committed_does_not_come_again_and_the_rest_does(kafka_url: str, sole_member: bool) -> None:
    topic, group = new_topic(kafka_url, 2), uuid.uuid4().hex
    await fill(kafka_url, topic, [str(n).encode() for n in range(10)])
    await fill(kafka_url, topic, [b"other"], 1)

    async def run(commit_up_to: int) -> list[tuple[int, int]]:
        heard: list[tuple[int, int]] = []

        async def handle(records: Sequence[Record]) -> None:
            for record in records:
                heard.append((record.partition, record.offset))
                if record.partition == 0 and record.offset == commit_up_to:
                    loop.commit(record)

        ends: set[int] = set()
        loop = ConsumerLoop(
            kafka_url,
            handle,
            topics=[topic],
            group=group,
            sole_member=sole_member,
            on_caught_up=lambda _topic, partition: ends.add(partition),
        )
        task = asyncio.create_task(loop.run())
        await until(lambda: ends == {0, 1})
        loop.stop()
        await task
        return sorted(heard)

    assert await run(commit_up_to=5) == [(0, n) for n in range(10)] + [(1, 0)]
    assert await run(commit_up_to=9) == [(0, n) for n in range(6, 10)] + [(1, 0)]


async def test_an_exception_of_the_callback_ends_the_loop(kafka_url: str) -> None:
    topic = new_topic(kafka_url)
    await fill(kafka_url, topic, [b"poison"])

    async def handle(_records: Sequence[Record]) -> None:
        raise ValueError("cannot take it")

    with pytest.raises(ValueError, match="cannot take it"):
        await ConsumerLoop(kafka_url, handle, positions={(topic, 0): 0}).run()


async def test_an_offset_outside_the_log_ends_the_loop_instead_of_jumping(kafka_url: str) -> None:
    topic = new_topic(kafka_url)
    await fill(kafka_url, topic, [b"one"])

    async def handle(_records: Sequence[Record]) -> None:
        return

    with pytest.raises(KafkaException):
        async with asyncio.timeout(20):
            await ConsumerLoop(kafka_url, handle, positions={(topic, 0): 50}, offset_reset="error").run()


async def test_a_killed_broker_loses_nothing_that_was_sent_before_during_and_after(
    engines: Engines, kafka_url: str
) -> None:
    topic = new_topic(kafka_url)
    heard: list[bytes] = []

    async def handle(records: Sequence[Record]) -> None:
        heard.extend(record.value or b"" for record in records)

    task = asyncio.create_task(ConsumerLoop(kafka_url, handle, positions={(topic, 0): 0}).run())
    producer = AsyncProducer(kafka_url)
    await asyncio.gather(*(producer.send(topic, None, b"before %d" % n) for n in range(500)))
    engines.kill("kafka")
    during = [asyncio.ensure_future(producer.send(topic, None, b"during %d" % n)) for n in range(500)]
    await asyncio.sleep(0)
    began = time.perf_counter()
    engines.restart("kafka")
    await asyncio.gather(*during)
    print(f"delivered again {time.perf_counter() - began:.1f} s after the restart began")
    await asyncio.gather(*(producer.send(topic, None, b"after %d" % n) for n in range(500)))
    await until(lambda: len(heard) >= 1_500)
    expected = [b"%s %d" % (when, n) for when in (b"before", b"during", b"after") for n in range(500)]
    assert heard == expected
    await producer.close()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def frame_bytes(seq: int, log_id: str = "a") -> bytes:
    events: tuple[Event, ...] = ()
    frame = Frame(
        log_id=log_id, seq=seq, offset=seq, epoch=0, engine_version=1, at_ns=0, digest=f"{seq:032x}", events=events
    )
    pieces = list(encode_frame(frame, encode_events(events)))
    assert len(pieces) == 1
    return pieces[0]


async def read_frames(
    kafka_url: str, topic: str, position: FramePosition | None
) -> tuple[list[tuple[str, int]], list[str]]:
    """All frames up to the end, and the ids of the logs that were told to be new."""
    heard: list[tuple[str, int]] = []
    new_logs: list[str] = []
    ended = asyncio.Event()

    async def handle(batch: FrameBatch) -> None:
        if batch.is_new_log:
            new_logs.append(batch.log_id)
        heard.extend((frame.log_id, frame.seq) for frame in batch.frames)

    reader = FrameReader(kafka_url, topic, 0, handle, position=position, on_caught_up=ended.set)
    running = asyncio.create_task(reader.run())
    waiting = asyncio.create_task(ended.wait())
    await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED, timeout=30)
    waiting.cancel()
    if running.done():
        await running
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return heard, new_logs


async def test_frames_are_read_once_from_any_position_though_the_log_steps_back(kafka_url: str) -> None:
    topic = new_topic(kafka_url)
    # A second matcher repeats 500-520 after 2000, and 10-2600 after 3000: the search meets both.
    order = [*range(1, 2_001), *range(500, 521), *range(2_001, 3_001), *range(10, 2_601), *range(3_001, 3_101)]
    await fill(kafka_url, topic, [frame_bytes(seq) for seq in order])
    for seq in (0, 1, 499, 505, 600, 1_999, 2_000, 2_700, 3_050, 3_100):
        position = FramePosition(log_id="a", seq=seq)
        heard, new_logs = await read_frames(kafka_url, topic, position)
        assert heard == [("a", n) for n in range(seq + 1, 3_101)], f"from {seq}"
        assert new_logs == []
    heard, new_logs = await read_frames(kafka_url, topic, None)
    assert (len(heard), new_logs) == (3_100, ["a"])


async def test_a_missing_frame_stops_the_reader(kafka_url: str) -> None:
    topic = new_topic(kafka_url)
    await fill(kafka_url, topic, [frame_bytes(seq) for seq in (1, 2, 3, 5)])
    with pytest.raises(SequenceGap, match="expected seq 4, was 5"):
        await read_frames(kafka_url, topic, FramePosition(log_id="a", seq=2))


async def test_a_position_of_a_log_that_is_gone_starts_at_the_new_log(kafka_url: str) -> None:
    topic = new_topic(kafka_url)
    await fill(kafka_url, topic, [frame_bytes(seq, "b") for seq in range(1, 401)])
    heard, new_logs = await read_frames(kafka_url, topic, FramePosition(log_id="a", seq=300))
    assert heard == [("b", n) for n in range(1, 401)]
    assert new_logs == ["b"]


async def test_the_search_for_a_start_lands_close_in_a_long_log(kafka_url: str) -> None:
    topic = new_topic(kafka_url)
    await fill(kafka_url, topic, [frame_bytes(seq) for seq in range(1, 20_001)])
    began = time.perf_counter()
    offset = await asyncio.to_thread(find_offset, kafka_url, topic, 0, FramePosition(log_id="a", seq=17_123))
    print(f"found in {time.perf_counter() - began:.3f} s")
    assert 17_123 - 200 <= offset <= 17_123


async def test_the_directory_is_ready_with_what_stood_there_and_follows_changes(kafka_url: str) -> None:
    ensure_topics(kafka_url, SHARED_TOPICS)
    session = "s" + uuid.uuid4().hex[:8]
    market = MarketEntry(
        name="equities",
        commands_topic="c",
        events_topic="e",
        books_topic="b",
        shards=(ShardEntry(shard=0, tickers=("PETR4",)),),
    )
    entry = DirectoryEntry(
        namespace="local",
        session=session,
        revision=1,
        business_date="2026-11-20",
        desired_state="Open",
        clock=SessionClock(anchor_wall_ns=100, anchor_session_ns=5_000, speed=60),
        markets=(market,),
        participants=("MYBROKER",),
    )
    producer = AsyncProducer(kafka_url)
    await directory_module.publish(producer, entry)
    directory = Directory(kafka_url, clock=ManualClock(200))
    task = asyncio.create_task(directory.run())
    await directory.ready()
    assert directory.find(entry.key, "PETR4") == (market, market.shards[0])
    assert directory.find(entry.key, "VALE3") is None
    assert directory.session_now_ns(entry.key) == 11_000
    told: list[str | None] = []
    directory.on_change(lambda key, now: told.append(now.desired_state if now else None) if key == entry.key else None)
    await producer.send("b3-sessions-v1", entry.key.encode(), b"not an entry", partition=0)
    await directory_module.withdraw(producer, entry.key)
    await until(lambda: told == ["Open", None])
    assert directory.entry(entry.key) is None
    await producer.close()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
