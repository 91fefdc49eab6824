"""Decodes the bytes of text files: certain or not at all, because a wrong guess would be indexed for good.

Order of evidence: byte order mark, UTF-8, the encoding the file declares, the zero bytes of UTF-16 and UTF-32, and last
what the text says in each of the older encodings.
"""

from __future__ import annotations

import codecs
import re

import lightrag.errors as errors
from lightrag.documents.legacy import is_certain, readings

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it starts with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_DECLARED = {  # what pages mean by the names of narrower encodings, as browsers read them
    "iso8859-1": "cp1252",
    "ascii": "cp1252",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
    "tis-620": "cp874",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
}
_HEAD_BYTES = 65_536
_SAMPLE_BYTES = 8_192
_FOREIGN = re.compile(rb"[\x80-\xff]")
_NOT_ASCII = re.compile("[^\x00-\x7f]+")
_CONTROL = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]")
_CONTROL_SHARE = 0.02
_ZERO_SHARE = 0.2
_ISO_2022_JP = (b"\x1b$B", b"\x1b$@", b"\x1b(J")


def decode(data: bytes, source: str, *, declared: str = "") -> str:
    """Return the text of a text file.

    Args:
        data: the whole file.
        source: its name, for errors.
        declared: encoding that the file itself names; believed if all of the file decodes with it.

    Raises:
        DocumentError: ``undecodable``: the encoding cannot be told for certain, or the file breaks its own encoding;
            ``unsupported``: the file does not hold text.
    """
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return _strict(data[len(mark) :], encoding, source)
    if any(escape in data[:_HEAD_BYTES] for escape in _ISO_2022_JP):
        return _strict(data, "iso2022_jp_ext", source)
    if data.count(b"\0", 0, _HEAD_BYTES) > _ZERO_SHARE * min(len(data), _HEAD_BYTES):
        return _with_zeros(data, source)
    text = _try(data, "utf-8")
    if text is None and declared:
        text = _try(data, _codec(declared))
    if text is None:
        text = _older(data, source)
    return _readable(text, source)


def _with_zeros(data: bytes, source: str) -> str:
    """Decode UTF-16 and UTF-32 without a mark: ASCII in them leaves zeros at every second or fourth place."""
    head = data[:_HEAD_BYTES]
    order = ("le", "be") if head[1::2].count(0) >= head[0::2].count(0) else ("be", "le")
    for encoding in [f"utf-{bits}-{end}" for bits in (32, 16) for end in order]:
        text = _try(data, encoding)
        if text is not None and not _is_binary(text):
            return text
    raise _not_text(source)


def _older(data: bytes, source: str) -> str:
    _refuse_broken_utf8(data, source)
    sample = _foreign_sample(data)
    found = readings(sample, is_cut=len(data) > _SAMPLE_BYTES)
    whole = [(reading, text) for reading in found if (text := _try(data, reading.encoding)) is not None]
    if whole and is_certain([reading for reading, _ in whole]):
        return whole[0][1]
    if not whole and _is_binary(sample.decode("latin-1")):
        raise _not_text(source)
    guesses = ", ".join(reading.encoding for reading, _ in whole[:3]) or "none of the known ones"
    raise errors.DocumentError(
        f"the encoding of {source!r} cannot be told for certain (candidates: {guesses}): save it as "
        "UTF-8 and try again",
        subject=source,
        reason="undecodable",
    )


def _foreign_sample(data: bytes) -> bytes:
    """Collect lines with bytes outside ASCII: only they tell encodings apart. The last one may be cut."""
    head = data[:_SAMPLE_BYTES]
    if len(data) == len(head) or len(_FOREIGN.findall(head)) >= _SAMPLE_BYTES // 40:
        return head
    lines: list[bytes] = []
    missing = _SAMPLE_BYTES
    position = 0
    while missing > 0 and (found := _FOREIGN.search(data, position)):
        start = data.rfind(b"\n", 0, found.start()) + 1
        end = data.find(b"\n", found.start())
        position = end if end >= 0 else len(data)
        lines.append(data[start : min(position, start + missing)])
        if found.start() >= start + missing // 2:  # a long line that begins in ASCII
            start = found.start() - missing // 4
            lines[-1] = data[start : min(position, start + missing)]
        missing -= len(lines[-1]) + 1
    return b"\n".join(lines)


def _refuse_broken_utf8(data: bytes, source: str) -> None:
    """Old encodings hardly ever look like UTF-8 by chance, so mostly valid UTF-8 is UTF-8 with an accident in it."""
    text = data.decode("utf-8", "replace")
    broken = text.count("\ufffd")
    good = sum(map(len, _NOT_ASCII.findall(text))) - broken
    if good < 3 or good < 5 * broken:
        return
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _broken(source, "UTF-8", error) from error


def _strict(data: bytes, encoding: str, source: str) -> str:
    try:
        return _readable(data.decode(encoding), source)
    except UnicodeDecodeError as error:
        raise _broken(source, encoding.upper(), error) from error


def _try(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except (UnicodeDecodeError, LookupError):
        return None


def _codec(declared: str) -> str:
    try:
        name = codecs.lookup(declared.strip().strip("\"'")).name
    except LookupError:
        return ""
    # A page read byte by byte cannot truthfully say that it is UTF-16.
    return "" if name.startswith(("utf-16", "utf-32", "utf-7")) else _DECLARED.get(name, name)


def _readable(text: str, source: str) -> str:
    if _is_binary(text):
        raise _not_text(source)
    return text


def _is_binary(text: str) -> bool:
    head = text[:_HEAD_BYTES]
    return len(_CONTROL.findall(head)) > max(1, len(head) * _CONTROL_SHARE)


def _not_text(source: str) -> errors.DocumentError:
    return errors.DocumentError(
        f"{source!r} holds binary data, not text: convert it to PDF, DOCX, HTML, Markdown or plain text",
        subject=source,
        reason="unsupported",
    )


def _broken(source: str, encoding: str, error: UnicodeDecodeError) -> errors.DocumentError:
    return errors.DocumentError(
        f"{source!r} is {encoding}, but byte {error.start} is not valid in it ({error.reason}): the file is damaged or "
        "cut off; repair it or save it as UTF-8 again",
        subject=source,
        reason="undecodable",
    )


__all__ = ["decode"]
