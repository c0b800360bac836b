"""Assets over HTTP: the catalogue and the last quotes."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mybroker.contracts.catalogue import Catalogue
from mybroker.contracts.http_assets import Asset, AssetList, QuoteList
from mybroker.domain.instrument import KINDS_WITH_A_FRACTIONAL_MARKET, TICK_CENTS, Instrument, asset_of
from mybroker.domain.money import format_cents, format_ticks
from mybroker.domain.refusal import RejectReason
from mybroker.runtime.clock import Clock
from mybroker.runtime.directory import Directory
from mybroker.runtime.http import reply
from mybroker.runtime.problem import Problem
from services.broker_assets.quotes import show
from services.broker_assets.store import Store


class Api:
    """The handlers of assets."""

    def __init__(
        self, catalogue: Catalogue, store: Store, directory: Directory, clock: Clock, *, stale_after_ms: int
    ) -> None:
        self._catalogue = catalogue
        self._store = store
        self._directory = directory
        self._clock = clock
        self._stale_after_ms = stale_after_ms

    def routes(self) -> list[Route]:
        """Return the routes of this service."""
        return [
            Route("/assets", self.assets),
            Route("/assets/{ticker}", self.asset),
            Route("/quotes", self.quotes),
            Route("/quotes/{ticker}", self.quote),
        ]

    async def assets(self, _request: Request) -> Response:
        """The whole catalogue, by ticker."""
        aliases = await self._store.aliases()
        ordered = sorted(self._catalogue.instruments.values(), key=lambda instrument: instrument.ticker)
        return reply(AssetList(assets=tuple(self._show(instrument, aliases) for instrument in ordered)))

    async def asset(self, request: Request) -> Response:
        """One instrument, by its ticker or a name it had before."""
        aliases = await self._store.aliases()
        return reply(self._show(self._find(request.path_params["ticker"], aliases), aliases))

    async def quotes(self, _request: Request) -> Response:
        """The last quotes of the catalogue."""
        quotes = await self._store.quotes(sorted(self._catalogue.instruments))
        now_ns = self._clock.now_ns()
        shown = [show(quotes[ticker], now_ns=now_ns, stale_after_ms=self._stale_after_ms) for ticker in sorted(quotes)]
        return reply(QuoteList(quotes=tuple(shown)))

    async def quote(self, request: Request) -> Response:
        """The last quote of a ticker."""
        ticker = asset_of(request.path_params["ticker"])
        quotes = await self._store.quotes([ticker])
        if ticker not in quotes:
            instrument = self._find(ticker, await self._store.aliases())
            quotes = await self._store.quotes([instrument.ticker])
            if instrument.ticker not in quotes:
                raise Problem(404, "no_quote", f"no quote of {instrument.ticker} has come yet")
            ticker = instrument.ticker
        return reply(show(quotes[ticker], now_ns=self._clock.now_ns(), stale_after_ms=self._stale_after_ms))

    def _find(self, ticker: str, aliases: dict[str, str]) -> Instrument:
        instrument = self._catalogue.find(ticker) or self._catalogue.find(aliases.get(ticker, ""))
        if instrument is None:
            raise Problem(404, RejectReason.UNKNOWN_INSTRUMENT.value, f"{ticker[:12]} is not in the catalogue")
        return instrument

    def _show(self, instrument: Instrument, aliases: dict[str, str]) -> Asset:
        fractional = None
        if not instrument.is_fractional and instrument.kind in KINDS_WITH_A_FRACTIONAL_MARKET:
            fractional = f"{instrument.ticker}F"
        return Asset(
            ticker=instrument.ticker,
            name=instrument.name,
            kind=instrument.kind,
            group=instrument.group,
            lot=instrument.lot_shares,
            tick=format_cents(TICK_CENTS),
            reference_price=format_ticks(instrument.reference_price_ticks),
            index_weight_ppm=instrument.index_weight_ppm,
            fractional_ticker=fractional,
            tradable=any(entry.find(instrument.ticker) for entry in self._directory.entries.values()),
            aliases=tuple(alias for alias, ticker in aliases.items() if ticker == instrument.ticker),
        )
