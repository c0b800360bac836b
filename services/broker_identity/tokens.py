"""Access tokens and the keys that sign them.

Tokens are ES256, live ten minutes and carry user, account and scopes; whoever has the published key set verifies them
offline. The private keys are one JWK set in the secrets folder, made on the first start; the last key signs, the
others are still published until the tokens they signed have ended. `rotate` adds a key; running services notice.
"""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from mybroker.runtime.auth import AUDIENCE, ISSUER

ALGORITHM = "ES256"
ACCESS_TOKEN_LIFE_S = 600
KEYS_FILE = "identity_signing_keys.json"
KEYS_MAX = 3
SCOPES_OF_A_USER = ("read", "trade")


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessToken:
    """A signed token and the seconds it lives."""

    text: str
    expires_in_s: int
    scope: str


class SigningKeys:
    """The signing keys of a folder. The file is read again when it has changed."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / KEYS_FILE
        if not self._file.exists():
            _write_first(self._file)
        self._stamp = (0, 0)
        self._keys: list[ECKey] = []
        self._load()

    def issue(self, *, user: str, account: str, scopes: tuple[str, ...], token_id: str, now_s: int) -> AccessToken:
        """Return a token for a user, signed with the newest key."""
        self._load()
        signer = self._keys[-1]
        scope = " ".join(scopes)
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": user,
            "account": account,
            "scope": scope,
            "iat": now_s,
            "exp": now_s + ACCESS_TOKEN_LIFE_S,
            "jti": token_id,
        }
        text = jwt.encode({"alg": ALGORITHM, "kid": signer.kid, "typ": "at+jwt"}, claims, signer)
        return AccessToken(text=text, expires_in_s=ACCESS_TOKEN_LIFE_S, scope=scope)

    def published(self) -> bytes:
        """Return the JWKS document: public halves only."""
        self._load()
        members = [{**key.as_dict(private=False), "use": "sig", "alg": ALGORITHM} for key in self._keys]
        return msgspec.json.encode({"keys": members})

    def rotate(self) -> str:
        """Add a key, drop the oldest beyond KEYS_MAX, and return the new key's id."""
        self._load()
        key = _new_key()
        _write(self._file, [*self._keys, key][-KEYS_MAX:])
        self._load()
        return str(key.kid)

    def _load(self) -> None:
        seen = self._file.stat()
        stamp = (seen.st_mtime_ns, seen.st_ino)
        if stamp == self._stamp:
            return
        members: dict[str, Any] = msgspec.json.decode(self._file.read_bytes())
        self._keys = [ECKey.import_key(member) for member in members["keys"]]
        assert self._keys, f"{self._file.name}: expected a key, was an empty set"
        self._stamp = stamp


def key_set(document: bytes) -> KeySet:
    """Return the keys of a JWKS document."""
    return KeySet.import_key_set(msgspec.json.decode(document))


def _new_key() -> ECKey:
    return ECKey.generate_key("P-256", private=True, auto_kid=True)


def _encoded(keys: list[ECKey]) -> bytes:
    return msgspec.json.encode({"keys": [{**key.as_dict(private=True), "kid": key.kid} for key in keys]})


def _write(file: Path, keys: list[ECKey]) -> None:
    _temporary(file, keys).replace(file)


def _write_first(file: Path) -> None:
    """Write a first key, unless another process was faster: then its key stays."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(file, [_new_key()])
    try:
        os.link(temporary, file)
    except FileExistsError:
        return
    finally:
        temporary.unlink()


def _temporary(file: Path, keys: list[ECKey]) -> Path:
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=".keys-")
    with os.fdopen(handle, "wb") as opened:
        opened.write(_encoded(keys))
        opened.flush()
        os.fsync(opened.fileno())
    return Path(name)
