"""Keeping secrets out of what the command line says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

HIDDEN: Final = "<redacted>"

_SECRETS: Final = (
    "access_token",
    "api_key",
    "apikey",
    "auth_token",
    "bearer_token",
    "client_secret",
    "id_token",
    "private_key",
    "refresh_token",
    "secret",
    "secret_access_key",
    "secret_key",
    "session_token",
    "token",
)
_LIKE: Final = ("password", "passwd", "passphrase")


def redact(value: Any) -> Any:
    """The same value with secrets replaced, at any depth."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return {key: HIDDEN if _hides(key, one) else redact(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact(one) for one in value]
    return value


def _hides(key: Any, value: Any) -> bool:
    if value is None or isinstance(value, bool):
        return False
    name = str(key).lower().replace("-", "_")
    return name in _SECRETS or any(part in name for part in _LIKE)


def _text(text: str) -> str:
    if not _hints().search(text):
        return text
    for pattern, instead in _patterns():
        text = pattern.sub(instead, text)
    return text


@lru_cache(maxsize=1)
def _hints() -> re.Pattern[str]:
    """A cheap first look: most text has nothing to hide."""
    return re.compile(r"-----BEGIN|bearer\s|token|secret|key|passw|passphrase|://", re.IGNORECASE)


@lru_cache(maxsize=1)
def _patterns() -> tuple[tuple[re.Pattern[str], str], ...]:
    words = "|".join(name.replace("_", "[-_]?") for name in _SECRETS)
    like = r"[\w-]*(?:" + "|".join(_LIKE) + r")[\w-]*"
    value = r"(?:\"[^\"\n]*\"|'[^'\n]*'|[^\s,;&\"']+)"
    either = re.IGNORECASE
    return (
        (
            re.compile(r"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----.*?(?:-----END \1-----|\Z)", re.DOTALL),
            HIDDEN,
        ),
        (re.compile(r"\b(bearer)\s+[\w.~+/=-]{8,}", either), rf"\1 {HIDDEN}"),
        (re.compile(rf"(?<![\w-])(--(?:{words}|{like}))(\s+|=)(?!-){value}", either), rf"\1\2{HIDDEN}"),
        (re.compile(rf"(?<![\w-])((?:{words}|{like})\s*=\s*){value}", either), rf"\1{HIDDEN}"),
        (re.compile(rf"([\"'](?:{words}|{like})[\"']\s*:\s*){value}", either), rf"\1{HIDDEN}"),
        (re.compile(rf"(?<![\w/-])({like}:\s*){value}", either), rf"\1{HIDDEN}"),
        (re.compile(r"(://[^/\s:@]*:)[^/\s@]+@"), rf"\1{HIDDEN}@"),
    )
