"""Bodies of identity's HTTP calls, as clients see them at the gateway."""

from __future__ import annotations

import msgspec


class Credentials(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A name and its password."""

    username: str
    password: str


class RefreshToken(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A refresh token; it can be exchanged once."""

    refresh_token: str


class Registered(msgspec.Struct, frozen=True, kw_only=True):
    """A new user. `opening_paid` false: the opening balance is still on its way."""

    user_id: str
    account: str
    username: str
    opening_paid: bool


class TokenPair(msgspec.Struct, frozen=True, kw_only=True):
    """An access token for the Authorization header and the refresh token for the next pair; lives in seconds."""

    access_token: str
    expires_in: int
    refresh_token: str
    refresh_expires_in: int
    scope: str
    account: str
    token_type: str = "Bearer"
