"""A long text as gists that fit a budget, for models that cannot hold all of it (MemoRAG Lite)."""

from __future__ import annotations

from typing import Final

from lightrag.config import GistSettings
from lightrag.documents.chunker import MIN_TOKENS, Chunker
from lightrag.errors import BackendError, LimitError
from lightrag.memory.gists import Gister, corpus_gists, document_gists, top_gists
from lightrag.types import Document

_PIECE_TOKENS: Final = 4096
"""Source tokens behind one gist, and an eighth of them for the gist: what the published system allows."""
_PARTS: Final = 8
_FRAME_TOKENS: Final = 256
"""For the prompt around a piece."""


async def condense(text: str, language: str, gister: Gister, *, window: int, budget: int) -> str:
    """Condense a text piece by piece, and the gists again until they fit.

    Args:
        text: of any length.
        language: ISO 639-1.
        gister: condenses one piece; its tokenizer counts.
        window: tokens that it can read and write at once.
        budget: tokens that the gists may take together.

    Raises:
        LimitError: the window is too small for any piece.
        BackendError: the model condensed everything to nothing.
    """
    # A piece, a gist of twice the length asked for, and the prompt must fit.
    size = min(_PIECE_TOKENS, (window - _FRAME_TOKENS) * 3 // 4) // _PARTS
    if size < MIN_TOKENS:
        raise LimitError(f"a model with a window of {window} tokens is too small to condense texts")
    settings = GistSettings(chunks_per_gist=_PARTS, tokens_per_gist=size, budget_tokens=max(budget, size, 64))
    document = Document("text", "text", "", text, "", language=language)
    level0 = await document_gists(Chunker(gister.tokenizer, size).chunks(document), gister, settings)
    if not level0:
        raise BackendError("the model wrote no gist of any part of the text: take a larger or an instruction-tuned one")
    return "\n".join(
        gist.text for gist in top_gists([*level0, *await corpus_gists(level0, gister, settings, language)])
    )


__all__ = ["condense"]
