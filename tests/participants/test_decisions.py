"""What makers and noise traders decide, in tables; whatever they decide, the exchange would take it."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest

from mybroker.contracts.catalogue import shipped_catalogue
from mybroker.domain.instrument import Instrument
from mybroker.domain.order import OrderType, Side, TimeInForce
from mybroker.domain.phase import CALL_PHASES, Phase
from services.b3_participants import noise
from services.b3_participants.decision import Action, Cancel, Holding, Own, Place, Replace, View
from services.b3_participants.maker import LEVELS, Maker


def instrument(ticker: str) -> Instrument:
    found = shipped_catalogue().find(ticker)
    assert found is not None
    return found


PETR4 = instrument("PETR4")


def view(phase: Phase = Phase.OPEN, quote: int | None = 3800, **more: int | None) -> View:
    return View(ticker="PETR4", phase=phase, quote_ticks=quote, **({"reference_ticks": 3800} | more))


def own(text: str) -> Own:
    """Read "b1 buy 500 @ 37.98 filled 100"."""
    order_id, side, quantity, _at, price, *filled = text.split()
    cum_shares = int(filled[1]) if filled else 0
    return Own(
        order_id=order_id,
        side=Side(side),
        price_ticks=round(float(price) * 100),
        cum_shares=cum_shares,
        leaves_shares=int(quantity) - cum_shares,
    )


def shown(actions: Sequence[Action]) -> list[str]:
    lines = []
    for action in actions:
        match action:
            case Place():
                lines.append(f"{action.side} @ {action.price_ticks}")
            case Replace():
                lines.append(f"{action.order_id} @ {action.price_ticks}")
            case Cancel():
                lines.append(f"cancel {action.order_id}")
    return lines


LADDER = (
    own("b1 buy 600 @ 37.98"),
    own("b2 buy 600 @ 37.97"),
    own("b3 buy 600 @ 37.96"),
    own("s1 sell 600 @ 38.02"),
    own("s2 sell 600 @ 38.03"),
    own("s3 sell 600 @ 38.04"),
)
CALL_LADDER = ["buy @ 3803", "buy @ 3802", "buy @ 3801", "sell @ 3804", "sell @ 3805", "sell @ 3806"]

MAKER_TABLE: dict[str, tuple[View, Holding, list[str]]] = {
    "an empty book gets a ladder on both sides": (
        view(),
        Holding(),
        ["buy @ 3798", "buy @ 3797", "buy @ 3796", "sell @ 3802", "sell @ 3803", "sell @ 3804"],
    ),
    "a ladder that stands right is left alone": (view(), Holding(orders=LADDER), []),
    "when the quote rises the asks go first": (
        view(quote=3810),
        Holding(orders=LADDER),
        ["s1 @ 3812", "s2 @ 3813", "s3 @ 3814", "b1 @ 3808", "b2 @ 3807", "b3 @ 3806"],
    ),
    "when the quote falls the bids go first": (
        view(quote=3790),
        Holding(orders=LADDER),
        ["b1 @ 3788", "b2 @ 3787", "b3 @ 3786", "s1 @ 3792", "s2 @ 3793", "s3 @ 3794"],
    ),
    "a filled level is placed again": (
        view(),
        Holding(orders=LADDER[1:]),
        ["b2 @ 3798", "b3 @ 3797", "buy @ 3796"],
    ),
    "a thin order is filled up": (
        view(),
        Holding(orders=(own("b1 buy 600 @ 37.98 filled 500"), *LADDER[1:])),
        ["b1 @ 3798"],
    ),
    "what is too much is cancelled": (
        view(),
        Holding(orders=(*LADDER, own("b9 buy 600 @ 37.00"))),
        ["cancel b9"],
    ),
    "while an answer is awaited nothing is done": (view(quote=3900), Holding(orders=LADDER, underway=1), []),
    "a long position leans the ladder down": (
        view(),
        Holding(orders=LADDER, position_shares=4_000),
        ["b1 @ 3797", "b2 @ 3796", "b3 @ 3795", "s1 @ 3801", "s2 @ 3802", "s3 @ 3803"],
    ),
    "a closed market is left alone": (view(Phase.CLOSED), Holding(), []),
    "a halted market is left alone": (view(Phase.HALTED), Holding(orders=LADDER), []),
    "without any price there is nothing to quote": (view(quote=None, reference_ticks=None), Holding(), []),
    "without a quote the last trade is the centre": (
        view(quote=None, last_ticks=3900),
        Holding(),
        ["buy @ 3898", "buy @ 3897", "buy @ 3896", "sell @ 3902", "sell @ 3903", "sell @ 3904"],
    ),
    "in a call an odd maker buys dearer than the price": (view(Phase.PRE_OPEN), Holding(), CALL_LADDER),
    "in a call it waits once its crossing order stands": (
        view(Phase.PRE_OPEN),
        Holding(orders=(own("b1 buy 600 @ 38.03"),)),
        [],
    ),
    "into the closing call it moves its ladder": (
        view(Phase.CLOSING_CALL),
        Holding(orders=LADDER),
        ["s1 @ 3804", "s2 @ 3805", "s3 @ 3806", "b1 @ 3803", "b2 @ 3802", "b3 @ 3801"],
    ),
}


@pytest.mark.parametrize("case", MAKER_TABLE)
def test_what_a_maker_does_when(case: str) -> None:
    seen, holding, expected = MAKER_TABLE[case]
    maker = Maker(number=1)

    # A maker of number 1 keeps a tick more to each side than its even fellows.
    assert shown(maker.decide(seen, holding, PETR4, Random(7))) == expected


def test_an_even_maker_sells_cheaper_in_a_call_so_that_the_auction_prints() -> None:
    odd = Maker(number=1).decide(view(Phase.PRE_OPEN), Holding(), PETR4, Random(7))
    even = Maker(number=2).decide(view(Phase.PRE_OPEN), Holding(), PETR4, Random(7))
    dearest_bid = max(a.price_ticks or 0 for a in odd if isinstance(a, Place) and a.side is Side.BUY)
    cheapest_ask = min(a.price_ticks or 0 for a in even if isinstance(a, Place) and a.side is Side.SELL)

    assert dearest_bid > cheapest_ask


def test_a_maker_never_meets_itself() -> None:
    for seed in range(200):
        rng = Random(seed)
        phase = rng.choice([Phase.OPEN, Phase.PRE_OPEN, Phase.CLOSING_CALL])
        position_shares = rng.randint(-50_000, 50_000)
        seen = view(phase, rng.randint(1, 9_000), last_ticks=rng.choice([None, rng.randint(1, 9_000)]))
        actions = Maker(number=rng.randint(1, 4)).decide(seen, Holding(position_shares=position_shares), PETR4, rng)
        bids = [a.price_ticks or 0 for a in actions if isinstance(a, Place) and a.side is Side.BUY]
        asks = [a.price_ticks or 0 for a in actions if isinstance(a, Place) and a.side is Side.SELL]
        assert not bids or not asks or max(bids) < min(asks), f"seed {seed}"
        assert len(bids) <= LEVELS >= len(asks)


TICKERS = ("PETR4", "COGN3", "BOVA11", "MXRF11", "BPAC11", "PETR4F", "BPAC11F")
PHASES = tuple(Phase)


def refused(action: Action, seen: View, holding: Holding, of: Instrument) -> str | None:
    """Say why the exchange would refuse an action."""
    if seen.phase in {Phase.CLOSED, Phase.HALTED, Phase.CANCEL_ONLY}:
        return "nothing is taken in this phase"
    if isinstance(action, Cancel | Replace):
        if action.order_id not in {order.order_id for order in holding.orders}:
            return "an order that is not there"
        if isinstance(action, Cancel):
            return None
    price_ticks, quantity_shares = action.price_ticks, action.quantity_shares
    if quantity_shares <= 0 or quantity_shares % of.lot_shares or quantity_shares > of.order_quantity_max_shares:
        return f"a quantity of {quantity_shares}"
    anchor = seen.last_ticks or seen.reference_ticks
    if price_ticks is not None and (
        price_ticks < 1 or (anchor and abs(price_ticks - anchor) * 5 > anchor and anchor > 20)
    ):
        return f"a price of {price_ticks} around {anchor}"
    if isinstance(action, Place):
        if (action.type is OrderType.MARKET) != (price_ticks is None):
            return "a price where none belongs, or none where one does"
        if action.time_in_force is TimeInForce.IOC and seen.phase in CALL_PHASES:
            return "ioc in a call"
        if action.type is OrderType.MARKET and action.protection_price_ticks is None:
            return "a market order at any price"
        if action.type is OrderType.MARKET and seen.phase not in CALL_PHASES:
            best = seen.ask_ticks if action.side is Side.BUY else seen.bid_ticks
            if best is None:
                return "a market order with nothing to trade against"
    return None


@pytest.mark.parametrize("ticker", TICKERS)
@pytest.mark.parametrize("who", ["maker", "noise"])
def test_whatever_is_decided_the_exchange_would_take(ticker: str, who: str) -> None:
    of = instrument(ticker)
    decided = 0
    for seed in range(600):
        rng = Random(f"{ticker}/{who}/{seed}")
        reference = of.reference_price_ticks
        last = rng.choice([None, reference * rng.randint(90, 110) // 100])
        seen = View(
            ticker=ticker,
            phase=rng.choice(PHASES),
            bid_ticks=rng.choice([None, reference - 2]),
            ask_ticks=rng.choice([None, reference + 2]),
            last_ticks=last,
            reference_ticks=reference,
            quote_ticks=rng.choice([None, reference, reference * 2, max(1, reference // 2)]),
        )
        most = 99 if of.is_fractional else 30 * of.lot_shares
        quantities = [rng.randrange(of.lot_shares, most + 1, of.lot_shares) for _ in range(rng.randint(0, 7))]
        holding = Holding(
            orders=tuple(
                Own(
                    order_id=f"o{number}",
                    side=rng.choice(list(Side)),
                    price_ticks=reference + rng.randint(-5, 5),
                    cum_shares=0,
                    leaves_shares=quantity,
                )
                for number, quantity in enumerate(quantities)
            ),
            position_shares=rng.choice([0, 10_000, -10_000]),
        )
        decide = Maker(number=1).decide if who == "maker" else noise.decide
        for action in decide(seen, holding, of, rng):
            decided += 1
            assert refused(action, seen, holding, of) is None, f"seed {seed}: {action} in {seen}"
    assert decided > 100


def test_the_same_inputs_and_seed_give_the_same_decisions() -> None:
    def run(seed: int) -> list[Sequence[Action]]:
        rng = Random(seed)
        return [noise.decide(view(bid_ticks=3798, ask_ticks=3802), Holding(), PETR4, rng) for _ in range(50)]

    assert run(7) == run(7)
    assert run(7) != run(8)


def test_a_noise_trader_does_a_bit_of_everything() -> None:
    rng = Random(7)
    holding = Holding(orders=LADDER[:2])
    kinds = {
        (type(action).__name__, getattr(action, "type", None), getattr(action, "time_in_force", None))
        for _ in range(400)
        for action in noise.decide(view(bid_ticks=3798, ask_ticks=3802), holding, PETR4, rng)
    }

    assert kinds == {
        ("Cancel", None, None),
        ("Replace", None, None),
        ("Place", OrderType.LIMIT, TimeInForce.DAY),
        ("Place", OrderType.LIMIT, TimeInForce.IOC),
        ("Place", OrderType.MARKET, TimeInForce.DAY),
    }


def test_in_a_call_noise_crosses_so_that_an_auction_prints() -> None:
    rng = Random(7)
    placed = [a for _ in range(60) for a in noise.decide(view(Phase.PRE_OPEN), Holding(), PETR4, rng)]
    bids = [a.price_ticks for a in placed if isinstance(a, Place) and a.side is Side.BUY and a.price_ticks]
    asks = [a.price_ticks for a in placed if isinstance(a, Place) and a.side is Side.SELL and a.price_ticks]

    assert max(bids) > min(asks)


def test_a_noise_trader_brings_its_position_back() -> None:
    rng = Random(7)
    placed = [
        a
        for _ in range(400)
        for a in noise.decide(view(bid_ticks=3798, ask_ticks=3802), Holding(position_shares=9_000), PETR4, rng)
        if isinstance(a, Place)
    ]
    assert sum(a.side is Side.SELL for a in placed) > len(placed) * 6 // 10


def test_a_trader_with_enough_orders_takes_one_out() -> None:
    holding = Holding(orders=LADDER)
    assert shown(noise.decide(view(), holding, PETR4, Random(1))) == ["cancel b1"]
    assert noise.decide(view(Phase.PRE_OPEN), holding, PETR4, Random(1)) == ()
