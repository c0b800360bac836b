"""Opening balances: every new account is owed one, and the wallet is asked until it has paid.

The debt is a row of the user, so a crash between registration and deposit loses nothing; the transfer's id derives
from the account, so asking twice pays once.
"""

import asyncio

from mybroker.contracts.catalogue import shipped_catalogue
from mybroker.domain.money import format_cents, format_ticks
from mybroker.runtime.http_client import HttpClient
from mybroker.runtime.lifecycle import AppContext
from mybroker.runtime.postgres import is_connection_loss
from mybroker.runtime.problem import Problem
from mybroker.runtime.telemetry import gauge
from services.broker_identity.store import Opening, Store

RETRY_MS = 1_000
BATCH_MAX = 50
WALLET = "broker_wallet"
PAID_OTHERWISE = "deposit_conflict"

_OWED = gauge("mbb3_openings_owed", "Accounts that still wait for their opening balance")


class Openings:
    """Pays what is owed. Run it supervised; `pay_soon` wakes it."""

    def __init__(self, context: AppContext, store: Store, wallet: HttpClient, headers: dict[str, str]) -> None:
        self._context = context
        self._store = store
        self._wallet = wallet
        self._headers = headers
        self._wake = asyncio.Event()
        self._paid: dict[str, asyncio.Event] = {}

    async def pay_soon(self, account: str, *, wait_ms: int) -> bool:
        """Wake the payer; say whether the account was paid within `wait_ms`."""
        paid = self._paid.setdefault(account, asyncio.Event())
        self._wake.set()
        try:
            async with asyncio.timeout(wait_ms / 1000):
                await paid.wait()
        except TimeoutError:
            return False
        finally:
            self._paid.pop(account, None)
        return True

    async def run(self) -> None:
        """Pay until cancelled."""
        while True:
            self._wake.clear()
            owed: list[Opening] = []
            try:
                owed = await self._store.openings(BATCH_MAX)
                _OWED.set(len(owed))
                for opening in owed:
                    await self._pay(opening)
                waits = len(owed) == BATCH_MAX
            except Problem as problem:
                self._context.log.warning("opening_postponed", code=problem.code, reason=problem.detail)
                waits = False
            except Exception as error:
                if not is_connection_loss(error):
                    raise
                self._context.log.warning("opening_postponed", reason=str(error))
                waits = False
            if not waits:
                try:
                    async with asyncio.timeout(RETRY_MS / 1000):
                        await self._wake.wait()
                except TimeoutError:
                    continue

    async def _pay(self, opening: Opening) -> None:
        try:
            await self._wallet.call(
                "POST",
                WALLET,
                "/deposits",
                body=deposit_of(opening),
                headers=self._headers,
                timeout_ms=5_000,
                idempotent=True,
            )
        except Problem as problem:
            if problem.code != PAID_OTHERWISE:
                raise
            # Paid before, with another catalogue's prices; what was paid then stands.
            self._context.log.warning("opening_paid_otherwise", account=opening.account, reason=problem.detail)
        await self._store.opened(opening.user_id)
        self._context.log.info("account_opened", account=opening.account, cash_cents=opening.cash_cents)
        if (paid := self._paid.get(opening.account)) is not None:
            paid.set()


def deposit_of(opening: Opening) -> dict[str, object]:
    """Return the deposit that pays an opening; the same for the same account, however often it is asked."""
    instruments = shipped_catalogue().instruments.values() if opening.shares_each else ()
    return {
        "account": opening.account,
        "deposit_id": f"opening-{opening.account}",
        "cash": format_cents(opening.cash_cents),
        "shares": [
            {
                "ticker": instrument.ticker,
                "quantity": opening.shares_each,
                "price": format_ticks(instrument.reference_price_ticks),
            }
            for instrument in instruments
        ],
    }
