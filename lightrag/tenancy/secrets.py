"""The text of API keys and what is stored of it.

A secret has 256 random bits, so nobody can try them all, and a slow hash would only cost every request its time: a
keyed hash with a salt per key takes a microsecond and is as safe.
"""

from __future__ import annotations

import hmac
import re
import secrets
from typing import NamedTuple

from blake3 import blake3

PREFIX = "lrag"
_TEXT = re.compile(rf"{PREFIX}_([0-9a-f]{{16}})_([A-Za-z0-9_-]{{43}})\Z")
_NOBODY = (b"\0" * 32, b"\0" * 32)


class KeyText(NamedTuple):
    """A key in its two parts."""

    key_id: str
    secret: str

    def __str__(self) -> str:
        return f"{PREFIX}_{self.key_id}_{self.secret}"

    def __repr__(self) -> str:
        return f"KeyText({self.key_id!r})"


class Sealed(NamedTuple):
    """What is stored of a secret."""

    salt: bytes
    digest: bytes


def new_key() -> KeyText:
    """Draw a key: 64 bits of name, 256 bits of secret."""
    return KeyText(secrets.token_hex(8), secrets.token_urlsafe(32))


def read_key(text: str) -> KeyText | None:
    """Take a key apart; ``None`` where it cannot be one."""
    found = _TEXT.match(text)
    return KeyText(*found.groups()) if found else None


def seal(secret: str) -> Sealed:
    """Hash a secret under a fresh salt."""
    salt = secrets.token_bytes(32)
    return Sealed(salt, _digest(secret, salt))


def opens(secret: str, sealed: Sealed | None) -> bool:
    """Whether a secret is the one that was sealed; takes the same time for ``None``, which nothing opens."""
    salt, digest = sealed or _NOBODY
    equal = hmac.compare_digest(_digest(secret, salt), digest)
    return equal and sealed is not None


def _digest(secret: str, salt: bytes) -> bytes:
    return blake3(secret.encode(), key=salt).digest()


__all__ = ["PREFIX", "KeyText", "Sealed", "new_key", "opens", "read_key", "seal"]
