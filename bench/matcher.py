"""Commands a second through Kafka and one matcher process, and how long a command takes to become a frame.

First a burst: all commands at once, until the frame of the last is in the event log; the baseline is the engine alone
on the same commands in this process. Then open-loop rates: the latency counts from the instant a command was due to
the instant its frame was read back. Producer and reader are this one process, on the same machine.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from confluent_kafka import KafkaError, Message

from bench.engine import open_engine, play
from bench.flow import Flow, load_flow
from bench.kafka_market import Market, open_market
from bench.latency import Latencies, ms_text, summarise
from bench.log_reader import Heard, LogReader
from bench.open_loop import due_offsets_ns
from bench.report import NS_PER_SECOND, Options, Result, per_second
from bench.session import temporary_home
from mybroker.contracts.commands import Command
from mybroker.contracts.frames import COMMANDS, decode_frame_head
from mybroker.runtime.kafka import make_producer

BURST_COMMANDS = 50_000
BURST_COMMANDS_QUICK = 5_000
WARM_UP_COMMANDS = 2_000
RATES = (1_000, 5_000)
RATE_SECONDS = 8
RATE_SECONDS_QUICK = 2
FRAMES_WITHIN_S = 120.0


class Sender:
    """Appends commands to the market's log and knows where each came to stand."""

    def __init__(self, market: Market) -> None:
        self._producer = make_producer(market.kafka_url)
        self._topic = market.commands

    def send(self, commands: Sequence[Command], due_offsets: Sequence[int] | None = None) -> tuple[dict[int, int], int]:
        """Append each command when it is due, or all at once; return due instants by log offset, and the start."""
        encoded = [COMMANDS.encode(command) for command in commands]
        due_ns_of: dict[int, int] = {}
        started_ns = time.monotonic_ns()
        for number, value in enumerate(encoded):
            due_ns = started_ns
            if due_offsets is not None:
                due_ns += due_offsets[number]
                while (wait_ns := due_ns - time.monotonic_ns()) > 0:
                    self._producer.poll(0)
                    time.sleep(min(wait_ns, 1_000_000) / NS_PER_SECOND)
            self._produce(value, due_ns, due_ns_of)
        if self._producer.flush(60):
            raise TimeoutError("the broker did not take every command within 60 s")
        return due_ns_of, started_ns

    def _produce(self, value: bytes, due_ns: int, due_ns_of: dict[int, int]) -> None:
        def delivered(error: KafkaError | None, message: Message) -> None:
            assert error is None, f"expected a delivery, was {error}"
            offset = message.offset()
            assert offset is not None, "a delivered message has an offset"
            due_ns_of[offset] = due_ns

        self._producer.produce(self._topic, value, partition=0, on_delivery=delivered)
        self._producer.poll(0)


def frame_latencies(records: Sequence[Heard], due_ns_of: dict[int, int]) -> dict[int, int]:
    """Return, by command offset, the time from due to frame; a frame in parts counts at its last, twice never."""
    latencies: dict[int, int] = {}
    for record in records:
        head = decode_frame_head(record.value)
        due_ns = due_ns_of.get(head.offset)
        if head.last and due_ns is not None:
            latencies.setdefault(head.offset, record.heard_ns - due_ns)
    return latencies


def run(options: Options) -> Result:
    """Measure the burst and the rates on one log."""
    burst = BURST_COMMANDS_QUICK if options.quick else BURST_COMMANDS
    seconds = RATE_SECONDS_QUICK if options.quick else RATE_SECONDS
    flow = load_flow(WARM_UP_COMMANDS + burst + sum(RATES) * seconds)
    result = Result(name="matcher", title=f"commands through Kafka and one matcher process, {flow.source} flow")
    alone_ns = _engine_alone_ns(flow, burst)
    with temporary_home() as folder, open_market(folder) as market:
        sender = Sender(market)
        _measure(market, sender, flow.commands[:WARM_UP_COMMANDS], None)
        rest = flow.commands[WARM_UP_COMMANDS:]
        _, took_ns = _measure(market, sender, rest[:burst], None)
        alone, through = per_second(burst, alone_ns), per_second(burst, took_ns)
        result.add_row(what=f"engine alone, {burst:,} commands (baseline)", commands_per_second=alone, ratio="1.00")
        result.add_row(
            what=f"Kafka, matcher, Kafka, {burst:,} at once",
            commands_per_second=through,
            ratio=f"{alone_ns / took_ns:.2f}",
        )
        rest = rest[burst:]
        for rate in RATES:
            count = rate * seconds
            latencies, took_ns = _measure(market, sender, rest[:count], due_offsets_ns(rate, seconds))
            rest = rest[count:]
            result.add_row(
                what=f"open-loop {rate:,}/s for {seconds} s",
                commands_per_second=per_second(count, took_ns),
                p50_ms=ms_text(latencies.p50_ns),
                p99_ms=ms_text(latencies.p99_ns),
                max_ms=ms_text(latencies.max_ns),
            )
    result.notes.append("latency: command due at the client to its frame read back by the client")
    return result


def _engine_alone_ns(flow: Flow, burst: int) -> int:
    engine = open_engine()
    play(engine, flow.commands[:WARM_UP_COMMANDS])
    commands = flow.commands[WARM_UP_COMMANDS : WARM_UP_COMMANDS + burst]
    started_ns = time.monotonic_ns()
    for offset, command in enumerate(commands, start=3 + WARM_UP_COMMANDS):
        engine.apply(offset, command)
    return time.monotonic_ns() - started_ns


def _measure(
    market: Market, sender: Sender, commands: Sequence[Command], due_offsets: Sequence[int] | None
) -> tuple[Latencies, int]:
    """Send, wait for every frame; return latencies and the time from the start to the last frame."""
    with LogReader(market.kafka_url, market.events) as reader:
        due_ns_of, started_ns = sender.send(commands, due_offsets)
        # The owner's ticks make frames too, so the count alone is too little, and is looked at again.
        wanted = len(commands)
        while True:
            reader.wait_count(wanted, within_s=FRAMES_WITHIN_S)
            latencies = frame_latencies(list(reader.records), due_ns_of)
            missing = len(commands) - len(latencies)
            if not missing:
                break
            wanted = len(reader.records) + missing
        last_offset = max(due_ns_of)
        last_ns = due_ns_of[last_offset] + latencies[last_offset]
    summary = summarise(latencies.values())
    assert summary is not None, "every command has its frame"
    return summary, last_ns - started_ns
