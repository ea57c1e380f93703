"""Messages to bytes and back, strictly.

A message is msgpack of ``[tag, fields]``. Tags are a closed set per channel;
fields must be exactly those of the attrs class, of exactly its types, and
the bytes must be the very ones that encoding the fields gives again, which
refuses duplicate keys and other spellings of the same thing.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from flpoc.errors import ConfigError, IntegrityError
from flpoc.settings import structure

#: A control message larger than this is refused before it is decoded.
MAX_MESSAGE_BYTES = 4 << 20
#: What somebody who is not trusted may say in one message, besides bytes that are only kept.
PLAIN_BYTES = 512 << 10
#: The limit of messages that only name something.
SHORT_BYTES = 64 << 10

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[str, dict[str, Any]])


def tag_of(cls: type) -> str:
    """``LogLines`` is ``log-lines`` on the wire."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()


class Family:
    """The closed set of messages that may come in on one direction of one channel.

    Args:
        name: Who sends them.
        classes: What they are.
        limit: Bytes of one message.
        plain_limit: Bytes of one message without its fields that are bytes: what is looked at piece by piece.
    """

    def __init__(
        self, name: str, *classes: type, limit: int = MAX_MESSAGE_BYTES, plain_limit: int = MAX_MESSAGE_BYTES
    ) -> None:
        self.name = name
        self.limit = limit
        self._plain_limit = plain_limit
        self._classes = {tag_of(cls): cls for cls in classes}

    def decode(self, data: bytes) -> Any:
        """Turn bytes into one of this family's messages.

        Raises:
            IntegrityError: The bytes are not exactly such a message.
        """
        if len(data) > self.limit:
            raise IntegrityError(f"{self.name}: a message of {len(data)} bytes; at most {self.limit} are taken")
        try:
            tag, fields = _decoder.decode(data)
            cls = self._classes.get(tag)
            if cls is None:
                raise IntegrityError(f"{self.name}: no message {tag[:40]!r} on this channel")
            if len(data) - sum(len(one) for one in fields.values() if type(one) is bytes) > self._plain_limit:
                raise IntegrityError(f"{self.name}: {tag}: larger than {self._plain_limit} bytes")
            if _encoder.encode((tag, fields)) != data:
                raise IntegrityError(f"{self.name}: {tag}: not in canonical form")
            return structure(fields, cls)
        except (msgspec.MsgspecError, ConfigError, RecursionError, ValueError, UnicodeError) as error:
            raise IntegrityError(f"{self.name}: not a valid message: {error}") from None


def encode(message: Any) -> bytes:
    """Turn a message into bytes."""
    return _encoder.encode((tag_of(type(message)), message))
