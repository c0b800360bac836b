"""Who the commands act for: tokens kept in the session's folder, readable by its owner only.

Without a login it is the demo user, who exists on a local session only. A token that ends is refreshed; a refresh
token works once, so the new pair is written before it is used.
"""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from mybroker.cli.client import Client, Refused
from mybroker.cli.failure import Failure
from mybroker.cli.sessions import RunningSession
from mybroker.contracts.http_identity import Credentials, RefreshToken, TokenPair
from mybroker.contracts.http_routes import API_PREFIX

DEMO = "demo"
ENDS_SOON_S = 10
FILE_NAME = "login.json"


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """Who is logged in; `ends_at_s` is the access token's end (wall, seconds since the epoch)."""

    username: str
    account: str
    access_token: str
    refresh_token: str
    ends_at_s: int


def public_api(session: RunningSession) -> Client:
    """Return a client of the gateway, without a login."""
    if not session.record.gateway_url:
        raise Failure(f"session {session.key} is starting: its gateway has no address yet; try again in a moment")
    return Client(session.record.gateway_url + API_PREFIX)


def my_api(session: RunningSession) -> Client:
    """Return a client of the gateway that acts for whoever is logged in, the demo user where nobody is."""
    return public_api(session).with_headers(Authorization=f"Bearer {current_login(session).access_token}")


def current_login(session: RunningSession) -> Login:
    """Return a login whose token is good for a while; raises Failure where it cannot be had without a password."""
    path = session.folder.path / FILE_NAME
    login = _read(path)
    if login is not None and login.ends_at_s - ENDS_SOON_S > time.time():
        return login
    if login is not None:
        try:
            pair = public_api(session).post("/auth/refresh", TokenPair, RefreshToken(refresh_token=login.refresh_token))
            return _keep(path, login.username, pair)
        except Refused:
            if login.username != DEMO:
                again = f"`mybroker login {login.username}`"
                raise Failure(f"the login of {login.username} has ended: {again}") from None
    return log_in(session, DEMO, DEMO)


def log_in(session: RunningSession, username: str, password: str) -> Login:
    """Log in and keep the tokens; raises Refused."""
    pair = public_api(session).post("/auth/token", TokenPair, Credentials(username=username, password=password))
    return _keep(session.folder.path / FILE_NAME, username, pair)


def _keep(path: Path, username: str, pair: TokenPair) -> Login:
    login = Login(
        username=username,
        account=pair.account,
        access_token=pair.access_token,
        refresh_token=pair.refresh_token,
        ends_at_s=int(time.time()) + pair.expires_in,
    )
    fresh = path.with_suffix(".new")
    fresh.touch(mode=0o600)
    fresh.write_bytes(msgspec.json.encode(login))
    fresh.replace(path)
    return login


def _read(path: Path) -> Login | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Login)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
