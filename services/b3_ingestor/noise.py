"""Chance that can be looked up: the same seed and name give the same number, in any order, on any machine.

Integers only, because a float's last digit may differ between machines and turn a price by a tick. Returns are in
parts per million. A path is a Brownian bridge by midpoint displacement, so every point of a day is known from the
seed alone.
"""

from __future__ import annotations

from hashlib import blake2b
from math import isqrt

GRID_STEPS = 2_048
"""A day's path has so many steps: 14 s each in an eight hour day."""

PPM = 1_000_000
_UNIFORMS = 8
_UNIFORM_SUM_DEVIATION = 53_510
"""Standard deviation of a sum of eight uniform 16-bit numbers: 65536 * sqrt(8 / 12)."""


def uniform(below: int, *name: object) -> int:
    """Return a number from 0 to `below` - 1; the bias of the remainder is far below one in a million."""
    digest = blake2b("/".join(map(str, name)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % below


def normal_milli(*name: object) -> int:
    """Return a normal number in thousandths of its deviation; never beyond five deviations."""
    digest = blake2b("/".join(map(str, name)).encode(), digest_size=2 * _UNIFORMS).digest()
    total = sum(int.from_bytes(digest[i : i + 2], "big") for i in range(0, 2 * _UNIFORMS, 2))
    return (2 * total - _UNIFORMS * 65_535) * 1_000 // (2 * _UNIFORM_SUM_DEVIATION)


def bridge_ppm(start_ppm: int, end_ppm: int, deviation_ppm: int, *name: object) -> list[int]:
    """Return a path of GRID_STEPS + 1 points between two values; `deviation_ppm` is that of a whole free day."""
    path = [0] * (GRID_STEPS + 1)
    path[0], path[-1] = start_ppm, end_ppm
    length = GRID_STEPS
    while length > 1:
        half = length // 2
        spread_ppm = deviation_ppm * isqrt(PPM * length // GRID_STEPS) // 2_000
        for left in range(0, GRID_STEPS, length):
            middle = (path[left] + path[left + length]) // 2
            path[left + half] = middle + normal_milli(*name, left + half) * spread_ppm // 1_000
        length = half
    return path


def volume_share_ppm(position: int, positions: int) -> int:
    """Return the part of a day's volume traded by a position: many trades early and late, few at noon (a U).

    The density is 1 + 3 (2x - 1)^2 over x in 0..1, halved so that it adds up to one.
    """
    x = min(max(position, 0), positions) * PPM // positions
    centred = 2 * x - PPM
    return (2 * x + centred * centred // PPM * centred // PPM + PPM) // 4
