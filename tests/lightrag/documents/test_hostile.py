"""Whatever bytes come in, out comes a document that keeps its promises or a DocumentError, and nothing else."""

import random

import pytest

from lightrag.documents import normalise, parse_document
from lightrag.errors import DocumentError
from lightrag.types import Document
from tests.lightrag.documents.test_docx import make_docx
from tests.lightrag.documents.test_html import PAGE
from tests.lightrag.documents.test_pdf import make_pdf

SEEDS = {
    "a.pdf": make_pdf(compress=False),
    "b.pdf": make_pdf(),
    "a.docx": make_docx(),
    "a.html": PAGE.encode(),
    "a.md": b"---\na: [b]\n---\n# H\n\n- *x*\n  1. y\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```\ncode\n```\n[l]: /u\n"
    * 3,
    "a.txt": "Chapter 1\n\nZürich \f 東京。".encode("utf-16"),
}


def damage(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        start = chance.randrange(len(changed) or 1)
        match chance.randrange(4):
            case 0:
                changed[start : start + 1] = bytes([chance.randrange(256)])
            case 1:
                del changed[start : start + chance.randrange(40)]
            case 2:
                changed[start:start] = chance.randbytes(chance.randrange(20))
            case _:
                changed[start:start] = changed[start : start + chance.randrange(200)]
    return bytes(changed)


@pytest.mark.parametrize("name", SEEDS)
def test_damaged_files_give_a_sound_document_or_a_document_error(name: str) -> None:
    chance = random.Random(name)
    for _ in range(120):
        outcome = read(damage(SEEDS[name], chance), name)
        if isinstance(outcome, DocumentError):
            assert repr(name) in str(outcome)
            assert outcome.subject == name
            continue
        assert outcome.text == normalise(outcome.text)
        assert outcome.text.strip()
        assert all(0 <= section.start <= section.end <= len(outcome.text) for section in outcome.sections)
        assert [s.start for s in outcome.sections] == sorted(s.start for s in outcome.sections)


def read(data: bytes, name: str) -> Document | DocumentError:
    try:
        return parse_document(data, source=name)
    except DocumentError as error:
        return error
