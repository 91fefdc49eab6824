"""Training data from JSON lines, in the fields of the published systems; prompts are written as they are served.

Knows files and tokenizers, no model.
"""

from __future__ import annotations

from pathlib import Path

from lightrag.memory.prompts import fill_template, prompts_for
from lightrag.models.base import Prompt
from lightrag.models.local.rendering import PromptRenderer
from lightrag.models.tokenization import HuggingFaceTokenizer
from lightrag.training.rows import read_rows
from lightrag.training.tasks import Sample, Turn
from lightrag.types import ChatMessage, LatentPart

_MARK = "\x00passages\x00"


def read_texts(
    file: str | Path,
    tokenizer: HuggingFaceTokenizer,
    *,
    min_tokens: int = 1024,
    max_tokens: int = 16000,
    bos: int | None = None,
) -> list[tuple[int, ...]]:
    """Texts for pre-training from lines ``{"text": …}``; those outside the bounds are left out, as published.

    Args:
        file: JSON lines, see :func:`lightrag.training.rows.read_rows`.
        tokenizer: of the language model.
        min_tokens: shorter texts are left out, and so are texts of exactly this length.
        max_tokens: longer texts are left out, and so are texts of exactly this length.
        bos: id in front of every text, where the tokenizer has one.

    Raises:
        DataError: a line is not such an object.
    """
    prefix = () if bos is None else (bos,)
    texts = [row.field("text", str) for row in read_rows(file)]
    encoded = [(*prefix, *ids) for ids in tokenizer.ids_of(texts)]
    return [ids for ids in encoded if min_tokens < len(ids) < max_tokens]


def read_questions(
    file: str | Path, renderer: PromptRenderer, *, passages: int = 5, template: str = "", language: str = "en"
) -> list[Sample]:
    """Questions for fine-tuning from lines ``{"query": …, "key": [passages], "answers": […]}``.

    The prompt is the one that :class:`lightrag.latents.FlexRAG` writes, with all latents in one block; the first answer
    and the end of the turn are supervised.

    Args:
        file: JSON lines, see :func:`lightrag.training.rows.read_rows`.
        renderer: of the language model.
        passages: the first so many are taken.
        template: with ``{context}`` and ``{question}``; empty: the built-in one of ``language``.
        language: of the built-in prompt.

    Raises:
        DataError: a line is not such an object, or has no passage or no answer.
    """
    end = renderer.pretrained.eos_token_id
    prompt = template or prompts_for(language).qa_gen
    samples = []
    for row in read_rows(file):
        texts = row.field("key", list)[:passages]
        answers = row.field("answers", list)
        if not texts or not answers:
            raise row.fault("has no passage or no answer")
        before, after = _around(renderer, prompt, row.field("query", str))
        ids = renderer.tokenizer.ids_of([str(answers[0]), *map(str, texts)])
        answer = (*ids[0], *([] if end is None else [end]))
        samples.append(Sample(before, tuple(map(tuple, ids[1:])), (Turn(after, answer),)))
    return samples


def opening_ids(renderer: PromptRenderer) -> list[int]:
    """What the tokenizer puts in front of every text: BOS, or nothing."""
    bos = renderer.pretrained.bos_token_id
    return [bos] if bos is not None and renderer.pretrained("")["input_ids"][:1] == [bos] else []


def _around(renderer: PromptRenderer, template: str, question: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Ids in front of and behind the latents."""
    import numpy as np

    head, _, tail = fill_template(template, context=_MARK, question=question).partition(_MARK)
    message = ChatMessage("user", (head, LatentPart(np.zeros((1, 1), np.float32)), tail))
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    seen = False
    for segment in renderer.render(Prompt((message,))).segments:
        if isinstance(segment, LatentPart):
            seen = True
        elif seen:
            after += segment
        else:
            before += segment
    return before, after


__all__ = ["opening_ids", "read_questions", "read_texts"]
