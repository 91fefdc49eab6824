import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.documents import normalise


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a\r\nb\rc\u2028d\u2029e\x85f\vg\fh", "a\nb\nc\nd\ne\nf\ng\nh"),
        ("e\u0301te\u0301", "été"),
        ("nul\0 bell\x07 del\x7f", "nul bell del"),
        ("ex\u00adam\u00adple \ufeffword", "example word"),
        ("tab\tstays, so does \u200b and \u00a0", "tab\tstays, so does \u200b and \u00a0"),
        ("half a pair \ud800", "half a pair \ufffd"),
    ],
)
def test_what_is_changed(before: str, after: str) -> None:
    assert normalise(before) == after


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=100))
def test_it_is_idempotent_composed_and_encodable(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert "\r" not in once
    assert "\0" not in once
    once.encode("utf-8")
