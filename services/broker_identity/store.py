"""The identity database: users, refresh token families, the audit trail.

Refresh tokens are kept as SHA-256 only. Each may be used once; a second use means that it was copied, so its whole
family is revoked, in the same transaction that noticed it. Audit rows are only ever added.
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, LiteralString

from mybroker.runtime.postgres import Connection, Pool, in_transaction
from services.broker_identity.lockout import lock_seconds

MIGRATIONS: Final[tuple[LiteralString, ...]] = (
    """
    create sequence account_number start with 100001;
    create table users (
        id            text primary key,
        account       text not null unique,
        username      text not null unique,
        password_hash text not null,
        failures      integer not null default 0,
        locked_until  timestamptz,
        opening_cash_cents bigint not null,
        opening_shares integer not null,
        opened_at     timestamptz,
        created_at    timestamptz not null default now()
    );
    create index users_to_open on users (created_at) where opened_at is null;
    create table families (
        id         text primary key,
        user_id    text not null references users,
        created_at timestamptz not null default now(),
        revoked_at timestamptz,
        reason     text
    );
    create table refresh_tokens (
        token_hash bytea primary key,
        family     text not null references families,
        expires_at timestamptz not null,
        used_at    timestamptz,
        created_at timestamptz not null default now()
    );
    create index refresh_tokens_family on refresh_tokens (family);
    create table audit (
        id       bigint generated always as identity primary key,
        at       timestamptz not null default now(),
        user_id  text,
        username text,
        action   text not null,
        address  text not null
    );
    create index audit_user on audit (user_id, id);
    """,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """One user; `locked_s` is for how long logins are still refused."""

    id: str
    account: str
    username: str
    password_hash: str
    locked_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What a new account is owed: cash, and so many shares of each instrument of the catalogue."""

    user_id: str
    account: str
    cash_cents: int
    shares_each: int


class RefreshRefusal(StrEnum):
    """Why a refresh token was not taken."""

    INVALID = "refresh_token_invalid"
    EXPIRED = "refresh_token_expired"
    REUSED = "refresh_token_reused"


class Store:
    """All statements of the identity database."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add_user(
        self, *, user_id: str, username: str, password_hash: str, cash_cents: int, shares_each: int, address: str
    ) -> User | None:
        """Add a user with the next account number; None where the name is taken."""

        async def work(connection: Connection) -> User | None:
            cursor = await connection.execute(
                "insert into users (id, account, username, password_hash, opening_cash_cents, opening_shares)"
                " values (%s, nextval('account_number')::text, %s, %s, %s, %s)"
                " on conflict (username) do nothing returning account",
                [user_id, username, password_hash, cash_cents, shares_each],
            )
            row = await cursor.fetchone()
            if row is None:
                return None
            await _audit(connection, user_id, username, "registered", address)
            return User(id=user_id, account=str(row[0]), username=username, password_hash=password_hash, locked_s=0)

        return await in_transaction(self._pool, work)

    async def find_user(self, username: str) -> User | None:
        """Return the user of a name."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "select id, account, username, password_hash,"
                " coalesce(ceil(extract(epoch from locked_until - now())), 0)::int from users where username = %s",
                [username],
            )
            row = await cursor.fetchone()
        if row is None:
            return None
        return User(id=row[0], account=row[1], username=row[2], password_hash=row[3], locked_s=max(0, row[4]))

    async def login_failed(self, user: User | None, username: str, address: str) -> None:
        """Count a wrong password and lock the name when there were too many."""

        async def work(connection: Connection) -> None:
            if user is not None:
                cursor = await connection.execute(
                    "update users set failures = failures + 1 where id = %s returning failures", [user.id]
                )
                row = await cursor.fetchone()
                assert row is not None
                if seconds := lock_seconds(int(row[0])):
                    await connection.execute(
                        "update users set locked_until = now() + make_interval(secs => %s) where id = %s",
                        [seconds, user.id],
                    )
                    await _audit(connection, user.id, username, "locked", address)
            await _audit(connection, user.id if user else None, username, "login_failed", address)

        await in_transaction(self._pool, work)

    async def note(self, user_id: str | None, username: str, action: str, address: str) -> None:
        """Add an audit row."""
        async with self._pool.connection() as connection:
            await _audit(connection, user_id, username, action, address)

    async def login(
        self, user: User, *, family: str, token: str, life_s: int, new_hash: str | None, address: str
    ) -> None:
        """Start a refresh family, forget failures, and renew the password hash where one is given."""

        async def work(connection: Connection) -> None:
            await connection.execute(
                "update users set failures = 0, locked_until = null, password_hash = coalesce(%s, password_hash)"
                " where id = %s",
                [new_hash, user.id],
            )
            await connection.execute("insert into families (id, user_id) values (%s, %s)", [family, user.id])
            await _add_token(connection, family, token, life_s)
            await _audit(connection, user.id, user.username, "logged_in", address)

        await in_transaction(self._pool, work)

    async def refresh(self, old: str, new: str, *, life_s: int, address: str) -> User | RefreshRefusal:
        """Exchange a refresh token for the next of its family; one that was used before revokes the family."""

        async def work(connection: Connection) -> User | RefreshRefusal:
            cursor = await connection.execute(
                "select t.family, t.used_at is not null, t.expires_at <= now(), f.revoked_at is not null,"
                " u.id, u.account, u.username, u.password_hash"
                " from refresh_tokens t join families f on f.id = t.family join users u on u.id = f.user_id"
                " where t.token_hash = %s for update of t, f",
                [_hashed(old)],
            )
            row = await cursor.fetchone()
            if row is None:
                return RefreshRefusal.INVALID
            family, used, expired, revoked, user_id, account, username, password_hash = row
            if used:
                await _revoke(connection, family, "reused")
                await _audit(connection, user_id, username, "refresh_reused", address)
                return RefreshRefusal.REUSED
            if revoked:
                return RefreshRefusal.INVALID
            if expired:
                return RefreshRefusal.EXPIRED
            await connection.execute("update refresh_tokens set used_at = now() where token_hash = %s", [_hashed(old)])
            await _add_token(connection, family, new, life_s)
            await _audit(connection, user_id, username, "refreshed", address)
            return User(id=user_id, account=account, username=username, password_hash=password_hash, locked_s=0)

        return await in_transaction(self._pool, work)

    async def logout(self, token: str, address: str) -> bool:
        """Revoke the family of a refresh token; False where the token is unknown. Safe to repeat."""

        async def work(connection: Connection) -> bool:
            cursor = await connection.execute(
                "select f.id, u.id, u.username from refresh_tokens t join families f on f.id = t.family"
                " join users u on u.id = f.user_id where t.token_hash = %s for update of f",
                [_hashed(token)],
            )
            row = await cursor.fetchone()
            if row is None:
                return False
            await _revoke(connection, row[0], "logout")
            await _audit(connection, row[1], row[2], "logged_out", address)
            return True

        return await in_transaction(self._pool, work, idempotent=True)

    async def openings(self, limit: int) -> list[Opening]:
        """Return accounts whose opening balance is still owed, oldest first."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "select id, account, opening_cash_cents, opening_shares from users where opened_at is null"
                " order by created_at limit %s",
                [limit],
            )
            rows = await cursor.fetchall()
        return [Opening(user_id=row[0], account=row[1], cash_cents=row[2], shares_each=row[3]) for row in rows]

    async def opened(self, user_id: str) -> None:
        """Note that an account has its opening balance."""
        async with self._pool.connection() as connection:
            await connection.execute(
                "update users set opened_at = now() where id = %s and opened_at is null", [user_id]
            )


async def _add_token(connection: Connection, family: str, token: str, life_s: int) -> None:
    await connection.execute(
        "insert into refresh_tokens (token_hash, family, expires_at)"
        " values (%s, %s, now() + make_interval(secs => %s))",
        [_hashed(token), family, life_s],
    )


async def _revoke(connection: Connection, family: str, reason: str) -> None:
    await connection.execute(
        "update families set revoked_at = now(), reason = %s where id = %s and revoked_at is null", [reason, family]
    )


async def _audit(connection: Connection, user_id: str | None, username: str, action: str, address: str) -> None:
    await connection.execute(
        "insert into audit (user_id, username, action, address) values (%s, %s, %s, %s)",
        [user_id, username, action, address],
    )


def _hashed(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
