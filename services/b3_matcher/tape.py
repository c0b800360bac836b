"""The tape: one JSON line for each command, and one for each event worth a line; both directions of the first.

People write the short form (`session`, `new`, `tick` …); `command_to_line` writes any command of a log so that
`TapeReader` gives it back exactly: an exported day replays to the same events and the same hash. Lines that are no
commands raise `NotACommand` with what was expected; a price that is a number but no price is a refusal, as at the
exchange's door.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

import msgspec

from mybroker.contracts import commands as c
from mybroker.domain.instrument import FRACTIONAL_QUANTITY_MAX_SHARES, asset_of, is_fractional_ticker
from mybroker.domain.money import format_ticks, parse_cents, parse_price_ticks
from mybroker.domain.order import OrderType, SelfTradePrevention, Side, TimeInForce
from mybroker.domain.phase import Phase
from mybroker.domain.refusal import RejectReason
from mybroker.domain.rules import Rules
from mybroker.domain.schedule import PRESETS, day_schedule, parse_instant_ns, preset_of
from services.b3_matcher.engine.engine import ENGINE_VERSION
