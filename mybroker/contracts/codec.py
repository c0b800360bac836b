"""One wire form for every message: JSON `["kind", {fields}]`, checked on the way in.

The messages are plain frozen dataclasses (so that the pure core needs no library); msgspec encodes and
validates them here. Unknown fields are ignored, so that an older reader survives a newer writer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec


class Malformed(ValueError):
    """A message that is not what its contract says; the text names what was expected and what came."""


class Codec:
    """Encodes and decodes the messages of one closed family, each under its kind."""

    def __init__(self, family: str, kinds: Mapping[str, type]) -> None:
        """Name the family (for errors) and its kinds; a type may stand under one kind only."""
        self.family = family
        self._kind_of = {cls: kind for kind, cls in kinds.items()}
        assert len(self._kind_of) == len(kinds), f"{family}: a type stands under two kinds"
        self._decoder_of: dict[str, Any] = {kind: msgspec.json.Decoder(cls) for kind, cls in kinds.items()}
        self._encoder = msgspec.json.Encoder()
        self._pair = msgspec.json.Decoder(tuple[str, msgspec.Raw])
        self._pairs = msgspec.json.Decoder(list[tuple[str, msgspec.Raw]])

    def kind(self, message: object) -> str:
        """Return the kind under which a message of this family travels."""
        return self._kind_of[type(message)]

    def encode(self, message: object) -> bytes:
        """Encode one message; the same message always gives the same bytes."""
        return self._encoder.encode((self._kind_of[type(message)], message))

    def encode_many(self, messages: Iterable[object]) -> bytes:
        """Encode messages as one JSON array."""
        kind_of = self._kind_of
        return self._encoder.encode([(kind_of[type(message)], message) for message in messages])

    def decode(self, data: bytes | bytearray | memoryview) -> Any:
        """Decode one message; raises Malformed with what was expected and what came."""
        try:
            kind, body = self._pair.decode(data)
        except msgspec.MsgspecError as error:
            raise Malformed(f'{self.family}: expected ["kind", {{…}}], was {_shown(data)} ({error})') from error
        return self._decode_body(kind, body)

    def decode_many(self, data: bytes | bytearray | memoryview | msgspec.Raw) -> list[Any]:
        """Decode a JSON array of messages; raises Malformed."""
        try:
            pairs = self._pairs.decode(data)
        except msgspec.MsgspecError as error:
            raise Malformed(f'{self.family}: expected [["kind", {{…}}], …], was {_shown(bytes(data))}') from error
        return [self._decode_body(kind, body) for kind, body in pairs]

    def _decode_body(self, kind: str, body: msgspec.Raw) -> Any:
        decoder = self._decoder_of.get(kind)
        if decoder is None:
            expected = ", ".join(sorted(self._decoder_of))
            raise Malformed(f"{self.family}: expected one of {expected}, was {kind!r}")
        try:
            return decoder.decode(body)
        except msgspec.MsgspecError as error:
            raise Malformed(f"{self.family} {kind}: {error}, was {_shown(bytes(body))}") from error


def _shown(data: bytes | bytearray | memoryview) -> str:
    text = bytes(data[:120]).decode("utf-8", "replace")
    return text if len(data) <= 120 else text + "…"
