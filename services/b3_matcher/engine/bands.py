"""Price bands: where an order's price is refused, where a trade calls an auction, where a call's price extends it.

Auction bands lie around the last trade (else the reference), around the mean of the last 60 s of session time, and
around the previous close (static). They are inclusive and never narrower than the minimum; every fill of continuous
trading asks a `Corridor` first, and nothing else does. The protection band rounds to the nearest tick and is
exclusive. Source: the exchange's page, bands and halts; facts 1.3. Integers only: a mean is never divided out.
"""

from __future__ import annotations

from mybroker.contracts.events import BandsChanged
from mybroker.domain.money import ceil_div, floor_div
from mybroker.domain.phase import Phase, StatusReason
from mybroker.domain.rules import AuctionBandCentre, Rules
from mybroker.domain.schedule import NS_PER_SECOND
from services.b3_matcher.engine.items import Instrument
from services.b3_matcher.engine.state import State

_BP = 10_000
_TRADE = AuctionBandCentre.TRADE


class Corridor:
    """What one aggressor may trade at: asked before each fill, told of each fill."""

    __slots__ = ("_bands", "_last", "_minimum", "_moves", "_reference", "_shares", "_static_bp", "_value")

    def __init__(self, state: State, instrument: Instrument) -> None:
        _forget_old_trades(state, instrument)
        self._bands = instrument.bands
        self._minimum = state.rules.auction_band_minimum_ticks
        self._moves = state.rules.auction_band_centre is _TRADE
        self._last = instrument.centre
        self._value = instrument.recent_value
        self._shares = instrument.recent_shares
        self._reference = instrument.reference
        self._static_bp = static_bp(state.rules, instrument)

    def left_at(self, price: int) -> StatusReason | None:
        """Say which band a trade at this price would leave."""
        minimum = self._minimum
        if self._last is not None:
            off = abs(price - self._last)
            if off > minimum and off * _BP > self._last * self._bands.auction_last_bp:
                return StatusReason.BAND_LAST_PRICE
        if self._shares:
            off = abs(price * self._shares - self._value)
            if off > minimum * self._shares and off * _BP > self._value * self._bands.auction_mean_bp:
                return StatusReason.BAND_MEAN_PRICE
        if self._reference is not None:
            off = abs(price - self._reference)
            if off > minimum and off * _BP > self._reference * self._static_bp:
                return StatusReason.BAND_STATIC
        return None

    def note(self, price: int, shares: int) -> None:
        """Let the bands follow a fill, where the rules say that they do."""
        if self._moves:
            self._last = price
            self._value += price * shares
            self._shares += shares


def note_trade(state: State, instrument: Instrument, price: int, shares: int) -> None:
    """Count a trade into the mean of the last minute; one entry for each tick's time."""
    now_ns = state.market.now_ns
    recent = instrument.recent
    if recent and recent[-1][0] == now_ns:
        _, value, traded = recent[-1]
        instrument.recent = (*recent[:-1], (now_ns, value + price * shares, traded + shares))
    else:
        _forget_old_trades(state, instrument)
        instrument.recent = (*instrument.recent, (now_ns, price * shares, shares))
    instrument.recent_value += price * shares
    instrument.recent_shares += shares


def _forget_old_trades(state: State, instrument: Instrument) -> None:
    oldest_ns = state.market.now_ns - state.rules.mean_window_seconds * NS_PER_SECOND
    recent = instrument.recent
    if not recent or recent[0][0] > oldest_ns:
        return
    kept = tuple(entry for entry in recent if entry[0] > oldest_ns)
    instrument.recent = kept
    instrument.recent_value = sum(value for _, value, _ in kept)
    instrument.recent_shares = sum(shares for _, _, shares in kept)


def static_bp(rules: Rules, instrument: Instrument) -> int:
    """Return how wide the static band is after the steps it took today."""
    step, steps = instrument.static_step, rules.static_steps_bp
    if step == 0:
        return instrument.bands.static_bp
    if step <= len(steps):
        return steps[step - 1]
    widest = steps[-1] if steps else instrument.bands.static_bp
    return widest + (step - len(steps)) * rules.static_steps_more_bp


def note_print(state: State, instrument: Instrument, price: int) -> None:
    """Step the static band out until an auction's price is inside it, and tell the bands."""
    rules, reference = state.rules, instrument.reference
    if not rules.trades_have_bands:
        return
    if reference is not None and abs(price - reference) > rules.auction_band_minimum_ticks:
        while abs(price - reference) * _BP > reference * static_bp(rules, instrument):
            before = static_bp(rules, instrument)
            instrument.static_step += 1
            assert static_bp(rules, instrument) > before, f"static band of {instrument.ticker}: expected wider steps"
    tell(state, instrument)


def tell(state: State, instrument: Instrument) -> None:
    """Tell the bands that stand still between trades."""
    if not state.rules.bands:
        return
    centre, reference = instrument.centre, instrument.reference
    rejection = (None, None) if centre is None else _around(centre, instrument.bands.rejection_bp)
    static: tuple[int | None, int | None] = (None, None)
    if reference is not None and state.rules.trades_have_bands:
        low, high = _around(reference, static_bp(state.rules, instrument))
        least = state.rules.auction_band_minimum_ticks
        static = (max(1, min(low, reference - least)), max(high, reference + least))
    state.out.append(
        BandsChanged(
            ticker=instrument.ticker,
            rejection_low_ticks=rejection[0],
            rejection_high_ticks=rejection[1],
            static_low_ticks=static[0],
            static_high_ticks=static[1],
        )
    )


def _around(centre: int, band_bp: int) -> tuple[int, int]:
    """Return a band's inclusive ends, rounded inwards."""
    return ceil_div(centre * (_BP - band_bp), _BP), floor_div(centre * (_BP + band_bp), _BP)


def is_inside_rejection_band(rules: Rules, instrument: Instrument, price: int) -> bool:
    """Say whether an order's price is near enough to the last trade, else the reference; bounds round inwards."""
    centre = instrument.centre
    if not rules.bands or centre is None:
        return True
    return abs(price - centre) * _BP <= centre * instrument.bands.rejection_bp


def is_protection_hit(rules: Rules, instrument: Instrument) -> bool:
    """Say whether the theoretical price is too far from the last trade, else the reference, to print."""
    price, centre = instrument.theoretical[0], instrument.centre
    if not rules.trades_have_bands or price is None or centre is None:
        return False
    row = instrument.bands
    band_bp = row.protection_auction_bp if instrument.phase is Phase.AUCTION else row.protection_call_bp
    return abs(price - centre) >= max(1, (centre * band_bp + _BP // 2) // _BP)


def auction_seconds(rules: Rules, instrument: Instrument, price: int) -> int:
    """Return how long an auction lasts that a trade at this price would have called, by the day's move."""
    reference = instrument.reference
    move = 0 if reference is None else abs(price - reference) * _BP
    lasting = [seconds for from_bp, seconds in rules.auction_durations if move >= from_bp * (reference or 1)]
    return lasting[-1] if lasting else 0
