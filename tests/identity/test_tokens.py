"""Access tokens: signed by identity, verified offline by everyone else."""

from typing import Any

import msgspec
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey
from starlette.requests import Request

from mybroker.runtime.auth import KEYS_AGE_MAX_MS, KEYS_FETCH_GAP_MS, Verifier
from mybroker.runtime.clock import ManualClock
from mybroker.runtime.problem import Problem, Unavailable
from services.broker_identity.lockout import lock_seconds
from services.broker_identity.passwords import Passwords
from services.broker_identity.tokens import ACCESS_TOKEN_LIFE_S, SigningKeys

NOW_S = 1_795_000_000


class Identity:
    """Identity as a verifier sees it: a key set that can be away."""

    def __init__(self, folder):
        self.keys = SigningKeys(folder)
        self.fetches = 0
        self.away = False

    async def fetch(self):
        self.fetches += 1
        if self.away:
            raise Unavailable("broker_identity", "away")
        return self.keys.published()

    def token(self, *, now_s=NOW_S):
        return self.keys.issue(user="u1", account="100001", scopes=("read",), token_id="t1", now_s=now_s).text


@pytest.fixture
def clock():
    return ManualClock(NOW_S * 1_000_000_000)


@pytest.fixture
def identity(tmp_path):
    return Identity(tmp_path)


@pytest.fixture
def verifier(identity, clock):
    return Verifier(identity.fetch, clock=clock)


def request_with(authorization):
    headers = [(b"authorization", authorization.encode())] if authorization is not None else []
    return Request({"type": "http", "headers": headers, "method": "GET", "path": "/"})


async def code_of(awaitable):
    with pytest.raises(Problem) as caught:
        await awaitable
    return caught.value.status, caught.value.code


async def test_a_token_says_whose_account_it_is(identity, verifier):
    principal = await verifier.verify(request_with(f"Bearer {identity.token()}"), "read")

    assert (principal.account, principal.user, principal.scopes) == ("100001", "u1", frozenset({"read"}))


async def test_a_token_is_verified_once_and_remembered(identity, verifier):
    token = identity.token()
    assert await verifier.verify_token(token) is await verifier.verify_token(token)
    assert identity.fetches == 1


def forged(identity, **changes):
    claims: dict[str, Any] = {"iss": "mybroker-identity", "aud": "mybroker", "sub": "u1", "account": "1"}
    claims |= {"scope": "read trade", "exp": NOW_S + 600}
    header = {"alg": "ES256", "kid": changes.pop("kid")}
    return jwt.encode(header, claims | changes, changes.pop("key", None) or ECKey.generate_key("P-256", private=True))


def kid_of(identity):
    return msgspec.json.decode(identity.keys.published())["keys"][-1]["kid"]


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        (None, "token_missing"),
        ("", "token_missing"),
        ("Basic ZGVtbzpkZW1v", "token_missing"),
        ("Bearer ", "token_missing"),
        ("Bearer nonsense", "token_invalid"),
        ("Bearer a.b.c", "token_invalid"),
        ("Bearer " + "a" * 5000, "token_invalid"),
        ("Bearer eyJhbGciOiJub25lIiwia2lkIjoieCJ9.e30.", "token_invalid"),
    ],
)
async def test_what_is_no_token_is_refused(verifier, authorization, expected):
    assert await code_of(verifier.verify(request_with(authorization))) == (401, expected)


async def test_a_token_of_another_signer_under_our_key_id_is_refused(identity, verifier):
    assert await code_of(verifier.verify_token(forged(identity, kid=kid_of(identity)))) == (401, "token_invalid")


async def test_the_public_key_cannot_be_used_as_a_shared_secret(identity, verifier):
    secret = OctKey.import_key(identity.keys.published())
    token = jwt.encode({"alg": "HS256", "kid": kid_of(identity)}, {"sub": "u1"}, secret)
    assert await code_of(verifier.verify_token(token)) == (401, "token_invalid")


async def test_a_token_for_another_audience_is_refused(identity, verifier):
    key = identity.keys._keys[-1]
    claims = {"iss": "mybroker-identity", "aud": "elsewhere", "sub": "u", "account": "1", "scope": "", "exp": NOW_S + 9}
    token = jwt.encode({"alg": "ES256", "kid": key.kid}, claims, key)
    assert await code_of(verifier.verify_token(token)) == (401, "token_invalid")


async def test_a_token_ends_even_when_it_was_remembered(identity, verifier, clock):
    token = identity.token()
    await verifier.verify_token(token)
    clock.advance(ms=(ACCESS_TOKEN_LIFE_S + 10) * 1_000)
    assert await code_of(verifier.verify_token(token)) == (401, "token_expired")


async def test_a_missing_scope_is_its_own_refusal(identity, verifier):
    assert await code_of(verifier.verify_token(identity.token(), "trade")) == (403, "scope_missing")


async def test_a_rotated_key_is_fetched_at_once_and_old_tokens_go_on(identity, verifier, clock):
    old = identity.token()
    await verifier.verify_token(old)
    identity.keys.rotate()
    clock.advance(ms=KEYS_FETCH_GAP_MS + 1)

    await verifier.verify_token(identity.token())
    await verifier.verify_token(old)
    assert identity.fetches == 2


async def test_unknown_keys_do_not_make_us_ask_identity_again_and_again(identity, verifier):
    await verifier.verify_token(identity.token())
    for _ in range(20):
        assert await code_of(verifier.verify_token(forged(identity, kid="unknown"))) == (401, "token_invalid")
    assert identity.fetches == 1


async def test_known_keys_go_on_while_identity_is_away(identity, verifier, clock):
    await verifier.verify_token(identity.token())
    identity.away = True
    clock.advance(ms=KEYS_AGE_MAX_MS + 1)
    later = NOW_S + KEYS_AGE_MAX_MS // 1000

    assert (await verifier.verify_token(identity.token(now_s=later))).account == "100001"


async def test_without_any_key_the_answer_is_unavailable_and_heals(identity, verifier):
    identity.away = True
    assert await code_of(verifier.verify_token(identity.token())) == (503, "service_unavailable")
    identity.away = False
    assert (await verifier.verify_token(identity.token())).user == "u1"


def test_two_processes_that_start_first_share_one_key(tmp_path):
    assert SigningKeys(tmp_path).published() == SigningKeys(tmp_path).published()


def test_published_keys_hold_no_private_part(tmp_path):
    (key,) = msgspec.json.decode(SigningKeys(tmp_path).published())["keys"]
    assert set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"}


@pytest.mark.parametrize(
    ("failures", "seconds"), [(0, 0), (4, 0), (5, 15), (6, 30), (9, 240), (12, 900), (10_000, 900)]
)
def test_a_name_is_locked_for_longer_each_time(failures, seconds):
    assert lock_seconds(failures) == seconds


async def test_a_hash_made_with_other_parameters_verifies_and_is_outdated():
    weak, strong = Passwords(memory_kib=64, time_cost=1), Passwords(memory_kib=128, time_cost=1)
    stored = await weak.hash("correct horse")

    assert await strong.verify(stored, "correct horse")
    assert not await strong.verify(stored, "wrong horse")
    assert not await strong.verify(None, "a password that nobody has")
    assert strong.is_outdated(stored)
    assert not weak.is_outdated(stored)
