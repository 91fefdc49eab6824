r"""The one place where characters of a document are changed; afterwards its text is final and offsets exist.

What happens: Unicode composition (NFC), so that text and questions spell accents the same way; every kind of line end
becomes ``\n``; control characters, soft hyphens and byte order marks, which nobody sees, are removed.
"""

from __future__ import annotations

import re
import unicodedata

_LINE_END = re.compile("\r\n?|[\v\f\x1c-\x1e\x85\u2028\u2029]")
_INVISIBLE = re.compile("[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\u00ad\ufeff\ufffe\uffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def normalise(text: str) -> str:
    """Return ``text`` as documents hold it. Idempotent, linear in time."""
    text = _LINE_END.sub("\n", text)
    text = _INVISIBLE.sub("", text)
    if text.isascii():
        return text
    text = _SURROGATE.sub("\ufffd", text)
    return text if unicodedata.is_normalized("NFC", text) else unicodedata.normalize("NFC", text)


__all__ = ["normalise"]
