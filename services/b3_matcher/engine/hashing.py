"""The state hash: 128 bits over the canonical state, kept incrementally.

Each item (order, used-up id, participant, instrument, trade, the market) contributes BLAKE2b-128 of its canonical
bytes; the hash is the sum of all contributions modulo 2^128, so the order in which items changed does not matter,
and only what was touched since the last hash is hashed again. Canonical bytes are Python's `repr` of a tuple of
plain integers, texts, booleans and None (see each `canonical`), in UTF-8. A queue's order is covered by the entry
numbers. The log's id, the owner, its epoch and the wanted engine version are not covered.
"""

from __future__ import annotations

import hashlib

from services.b3_matcher.engine.items import ENDED, Ended, Order
from services.b3_matcher.engine.state import State

_MODULUS = 1 << 128


def contribution(canonical: tuple[object, ...]) -> int:
    """Return one item's part of the hash; nothing for an empty tuple."""
    if not canonical:
        return 0
    text = repr(canonical).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "big")


def fold(state: State) -> int:
    """Fold everything touched since the last time into the total and return it.

    Orders that ended shrink to what must be remembered of their ids: a change of form, not of meaning.
    """
    total = state.hash_total
    folded = set()
    for item, _ in state.journal:
        identity = id(item)
        if identity in folded:
            continue
        folded.add(identity)
        kept = item
        if type(item) is Order and item.state == ENDED:
            kept = _shrink(item)
        fresh = contribution(kept.canonical())
        total += fresh - item.hashed
        kept.hashed = fresh
        kept.stamp = -1
    state.journal.clear()
    state.hash_total = total % _MODULUS
    return state.hash_total


def _shrink(order: Order) -> Ended:
    ended = Ended(
        member=order.member,
        order_id=order.order_id,
        account=order.account,
        ticker=order.instrument.ticker,
        revision=order.revision,
    )
    order.member.orders[order.order_id] = ended
    return ended
