"""The text of keys and what is stored of it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.tenancy.secrets import new_key, opens, read_key, seal


def test_a_key_reads_back_and_opens_only_its_own_seal() -> None:
    first, second = new_key(), new_key()
    assert read_key(str(first)) == first
    sealed = seal(first.secret)
    assert opens(first.secret, sealed)
    assert not opens(second.secret, sealed)
    assert not opens(first.secret, None)


def test_equal_secrets_are_sealed_differently_and_never_stored() -> None:
    secret = new_key().secret
    one, other = seal(secret), seal(secret)
    assert one.digest != other.digest
    assert secret.encode() not in one.salt + one.digest


def test_the_representation_of_a_key_hides_its_secret() -> None:
    key = new_key()
    assert key.secret not in repr(key)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=100))
def test_whatever_is_sent_is_a_key_or_nothing(text: str) -> None:
    read = read_key(text)
    assert read is None or str(read) == text


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 42), st.characters(codec="ascii"))
def test_a_key_with_one_other_character_opens_nothing(position: int, character: str) -> None:
    secret = "A" * 43
    changed = secret[:position] + character + secret[position + 1 :]
    sealed = seal(secret)
    assert opens(changed, sealed) == (changed == secret)
