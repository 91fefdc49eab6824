"""What the tests of documents share."""

from __future__ import annotations

import pytest

from tests.lightrag.documents.tokenizers_for_tests import MiniLMTokenizer


@pytest.fixture(scope="session")
def minilm() -> MiniLMTokenizer:
    return MiniLMTokenizer()
