"""From what callers attach to messages to checked image files: paths, data URIs, base64, bytes. Nothing is fetched.

Knows no model and no store.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from blake3 import blake3

from lightrag.conversation.types import Message
from lightrag.errors import ConfigurationError, MessageError

if TYPE_CHECKING:
    from PIL import Image

MAX_IMAGES: Final = 64
"""Images of one message."""
FORMATS: Final = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")
"""Decoders that are used; others, such as EPS, run programs."""
INLINE: Final = "picture:"
"""Begins the name under which a picture that came inside its message is kept."""


class Picture(NamedTuple):
    """A checked image file."""

    reference: str
    """As callers see it: the path that was given, or ``picture:`` and the digest of what came inside the message."""
    content: bytes
    """The file, unchanged."""


@dataclass(frozen=True, slots=True)
class PictureRules:
    """What is accepted."""

    max_bytes: int = 20 * 1024 * 1024
    max_pixels: int = 50_000_000
    paths: bool = True
    """Read images that are given as paths on this machine."""


def read_pictures(messages: Sequence[Message], rules: PictureRules) -> tuple[list[Message], list[tuple[Picture, ...]]]:
    """Read every image of some messages.

    Returns:
        The messages with references in place of inline images, and the pictures of each of them.

    Raises:
        MessageError: an image is missing, unreadable or too large; nothing was stored.
    """
    named, pictures = [], []
    for place, message in enumerate(messages):
        if len(message.images) > MAX_IMAGES:
            raise _refused(place, f"has {len(message.images)} images; at most {MAX_IMAGES} belong to one message")
        found = tuple(_read(place, number, image, rules) for number, image in enumerate(message.images))
        named.append(replace(message, images=tuple(picture.reference for picture in found)))
        pictures.append(found)
    return named, pictures


def _read(place: int, number: int, image: str, rules: PictureRules) -> Picture:
    try:
        reference, content = _content(image, rules)
        if not content:
            raise ValueError("is empty")
        if len(content) > rules.max_bytes:
            raise ValueError(f"has {len(content):,} bytes; at most {rules.max_bytes:,} are accepted")
        decode(content, rules.max_pixels)
    except (ValueError, OSError) as error:
        raise _refused(place, f"has an image {number} ({_shown(image)}) that {_reason(error)}") from error
    return Picture(reference, content)


def _content(image: str, rules: PictureRules) -> tuple[str, bytes]:
    scheme = urlsplit(image[:64]).scheme.lower()
    if scheme in ("http", "https", "ftp"):
        raise ValueError("is a link, and nothing is fetched: attach the file itself")
    if scheme == "data":
        return _inline(_from_data_uri(image))
    path = unquote(urlsplit(image).path) if scheme == "file" else image
    if len(path) < 4096 and "\0" not in path and rules.paths and Path(path).expanduser().is_file():
        # Reading one byte more than is accepted tells a file that is too large from one that just fits.
        with Path(path).expanduser().open("rb") as file:
            return image, file.read(rules.max_bytes + 1)
    try:
        return _inline(base64.b64decode(image, validate=True))
    except binascii.Error:
        known = "is no file on this machine" if rules.paths else "is not inline, and paths are not read here"
        raise ValueError(f"{known}, and no base64 either") from None


def _from_data_uri(image: str) -> bytes:
    head, comma, body = image.partition(",")
    if not comma:
        raise ValueError("is a data URI without data")
    if not head.endswith(";base64"):
        return unquote_to_bytes(body)
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error as error:
        raise ValueError("is a data URI whose base64 is damaged") from error


def _inline(content: bytes) -> tuple[str, bytes]:
    return INLINE + blake3(content).hexdigest(length=16), content


def decode(content: bytes, max_pixels: int) -> Image.Image:
    """Decode an image file; of an animation its first picture.

    Raises:
        ValueError: it is none, or has too many pixels; nothing of a picture that is too large is decoded.
        OSError: it is damaged.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ModuleNotFoundError as error:
        raise ConfigurationError("multimodal_embedder needs Pillow: pip install pillow") from error
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
            width, height = opened.size
            if width * height > max_pixels:
                raise ValueError(f"has {width} x {height} pixels; at most {max_pixels:,} are accepted")
            return opened.convert("RGB")
    except UnidentifiedImageError:
        raise ValueError(f"is no image that can be read ({', '.join(FORMATS)})") from None
    except (SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"is damaged: {error}") from error


def _refused(place: int, reason: str) -> MessageError:
    return MessageError(f"message {place} {reason}; nothing of this call was stored", subject=str(place))


def _shown(image: str) -> str:
    return repr(image if len(image) <= 80 else image[:40] + "…")


def _reason(error: Exception) -> str:
    return f"cannot be read: {error}" if isinstance(error, OSError) else str(error)


__all__ = ["FORMATS", "INLINE", "MAX_IMAGES", "Picture", "PictureRules", "decode", "read_pictures"]
