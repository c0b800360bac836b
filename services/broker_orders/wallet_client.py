"""Asks the wallet to hold. Asking again is harmless: the wallet answers an (order, revision) once."""

from collections.abc import Mapping

import msgspec

from mybroker.domain.order import Side
from mybroker.domain.refusal import RejectReason
from mybroker.runtime.http_client import HttpClient
from mybroker.runtime.problem import Problem, Unavailable

WALLET = "broker_wallet"
TIMEOUT_MS = 1_500


class _Held(msgspec.Struct, frozen=True):
    held: int


class WalletClient:
    """The wallet as this service sees it."""

    def __init__(self, client: HttpClient, headers: Mapping[str, str]) -> None:
        """`headers` carry the token between services."""
        self._client = client
        self._headers = headers

    def away_for_ms(self) -> int | None:
        """Return how long the wallet will not be asked at all; None when it may be asked."""
        return self._client.closed_for_ms(WALLET)

    async def hold(
        self,
        *,
        order_id: str,
        revision: int,
        account: str,
        ticker: str,
        side: Side,
        quantity_shares: int,
        price_ticks: int,
        at_ns: int,
    ) -> RejectReason | None:
        """Hold what a revision may cost; returns why not. Raises Unavailable when that is not known."""
        body = {
            "order_id": order_id,
            "revision": revision,
            "account": account,
            "ticker": ticker,
            "side": side,
            "quantity_shares": quantity_shares,
            "price_ticks": price_ticks,
            "at_ns": at_ns,
        }
        try:
            await self._client.call(
                "POST",
                WALLET,
                "/holds",
                body=body,
                headers=self._headers,
                reply=_Held,
                timeout_ms=TIMEOUT_MS,
                idempotent=True,
            )
        except Unavailable:
            raise
        except Problem as problem:
            if problem.status >= 500:
                raise Unavailable(WALLET, str(problem)) from problem
            if problem.code in _REASONS:
                return RejectReason(problem.code)
            raise
        return None


_REASONS = frozenset(reason.value for reason in RejectReason)
