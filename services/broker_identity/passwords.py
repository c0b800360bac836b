"""Password hashes: argon2id in threads, never more than a few at once.

Parameters are OWASP's 19 MiB choice; a hash made with others verifies and is renewed at the next login. A login for
an unknown name costs the same work as for a known one. When too many wait, `PasswordsBusy` is raised at once.
"""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

CONCURRENCY_MAX = 2
WAITING_MAX = 64
MEMORY_KIB = 19_456
TIME_COST = 2
PARALLELISM = 1

PASSWORD_LENGTH_MIN = 8
PASSWORD_LENGTH_MAX = 256


P = ParamSpec("P")
T = TypeVar("T")


class PasswordsBusy(Exception):
    """More logins wait than this process takes on."""


class Passwords:
    """Hashes and verifies with bounded concurrency."""

    def __init__(self, *, memory_kib: int = MEMORY_KIB, time_cost: int = TIME_COST) -> None:
        self._hasher = PasswordHasher(time_cost=time_cost, memory_cost=memory_kib, parallelism=PARALLELISM)
        self._slots = asyncio.Semaphore(CONCURRENCY_MAX)
        self._waiting = 0
        self._nobody = self._hasher.hash("a password that nobody has")

    async def hash(self, password: str) -> str:
        """Return the hash to store. Raises PasswordsBusy."""
        return await self._run(self._hasher.hash, password)

    async def verify(self, stored: str | None, password: str) -> bool:
        """Say whether the password fits the stored hash; None, for an unknown name, never fits and takes as long."""
        try:
            await self._run(self._hasher.verify, stored or self._nobody, password)
        except (VerifyMismatchError, VerificationError, InvalidHashError):
            return False
        return stored is not None

    def is_outdated(self, stored: str) -> bool:
        """Say whether a hash was made with other parameters and should be renewed."""
        return self._hasher.check_needs_rehash(stored)

    async def _run(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        if self._waiting >= WAITING_MAX:
            raise PasswordsBusy(f"expected at most {WAITING_MAX} logins waiting")
        self._waiting += 1
        try:
            async with self._slots:
                return await asyncio.to_thread(work, *arguments, **named)
        finally:
            self._waiting -= 1
