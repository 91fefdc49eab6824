"""Training data of beacon models, in the published fields: texts to continue, and conversations to answer.

Knows files and tokenizers, no model. Source: behaviour of MemoRAG's published trainer.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lightrag.errors import UsageError
from lightrag.memory.beacon.loss import IGNORED, LabelledTokens
from lightrag.models.base import Prompt
from lightrag.models.local.rendering import PromptRenderer
from lightrag.training.data import opening_ids
from lightrag.training.rows import Row, read_rows
from lightrag.types import ChatMessage, LatentPart

_BATCH = 64
"""Texts that are tokenised together, on all cores."""


def read_samples(
    source: str | Path, renderer: PromptRenderer, *, min_tokens: int, max_tokens: int
) -> list[LabelledTokens]:
    """Read samples from rows with a field ``text`` or ``conversations``.

    A text is skipped below ``min_tokens`` and cut at ``max_tokens``; every token counts, and the end of text is
    appended where nothing was cut. A conversation, a list of ``{"role": …, "content": …}``, is skipped outside the
    bounds; only what the assistant says counts, with the token that ends its turn.

    Args:
        source: see :func:`lightrag.training.rows.read_rows`.
        renderer: of the model that is trained; its chat template writes conversations.
        min_tokens: at least so many.
        max_tokens: at most so many.

    Raises:
        DataError: a row has neither field, or a conversation is not one.
        UsageError: the bounds contradict each other, or the source cannot be read.
    """
    if not 0 <= min_tokens <= max_tokens:
        raise UsageError(f"min_tokens {min_tokens} must not exceed max_tokens {max_tokens}")
    texts: list[str] = []
    samples: list[LabelledTokens] = []
    for row in read_rows(source):
        if "conversations" in row.values:
            sample = encode_conversation(row, renderer)
            if min_tokens <= len(sample.token_ids) <= max_tokens:
                samples.append(sample)
            continue
        texts.append(row.field("text", str))
        if len(texts) == _BATCH:
            samples += _bounded(texts, renderer, min_tokens, max_tokens)
            texts = []
    return [*samples, *_bounded(texts, renderer, min_tokens, max_tokens)]


def pack_texts(
    source: str | Path, renderer: PromptRenderer, lengths: Sequence[int], *, seed: int = 0
) -> list[LabelledTokens]:
    """Join all texts of a source and cut them into blocks; what does not fill the last block is dropped.

    Args:
        source: rows with a field ``text``, see :func:`lightrag.training.rows.read_rows`.
        renderer: of the model that is trained.
        lengths: tokens of a block; one of them is drawn for each. Lengths listed twice come twice as often.
        seed: of the draws.

    Raises:
        DataError: a row has no text.
        UsageError: a length is not positive, or the source cannot be read.
    """
    if not lengths or min(lengths) < 1:
        raise UsageError(f"lengths of blocks must be positive, not {list(lengths)}")
    rng = random.Random(seed)  # noqa: S311  # no secret depends on it
    blocks: list[LabelledTokens] = []
    open_block: list[int] = []
    length = rng.choice(lengths)
    for ids in _encode((row.field("text", str) for row in read_rows(source)), renderer):
        open_block += [*ids, *_end(renderer)]
        at = 0
        while len(open_block) - at >= length:
            block = np.array(open_block[at : at + length], np.int32)
            blocks.append(LabelledTokens(block, block))
            at, length = at + length, rng.choice(lengths)
        open_block = open_block[at:]
    return blocks


def encode_conversation(row: Row, renderer: PromptRenderer) -> LabelledTokens:
    """Write a conversation by the model's chat template and label what the assistant says.

    Raises:
        DataError: a turn is not one, no turn is the assistant's, or the template cannot take the turns.
    """
    messages = _messages(row)
    try:
        segments = renderer.render(Prompt(tuple(messages))).segments
    except UsageError as error:
        raise row.fault(f"cannot be written by the chat template: {error}") from error
    end = renderer.pretrained.eos_token_id
    ids: list[int] = []
    labels: list[int] = []
    speaking = False
    for number, segment in enumerate(segments):
        if isinstance(segment, LatentPart):
            speaking = not speaking
            continue
        ends_turn = not speaking and number > 0 and segment[0] == end
        ids += segment
        labels += segment if speaking else [IGNORED] * len(segment)
        if ends_turn:
            labels[-len(segment)] = segment[0]
    last = max(place for place, label in enumerate(labels) if label != IGNORED)
    # What the template wrote behind the last answer, such as the opening of the next turn, teaches nothing.
    ids, labels = ids[: last + 1], labels[: last + 1]
    if end is not None and ids[-1] != end:
        ids, labels = [*ids, end], [*labels, end]
    return LabelledTokens(np.array(ids, np.int32), np.array(labels, np.int32))


def _messages(row: Row) -> list[ChatMessage]:
    """The turns, with marks around what the assistant says; leading turns that are not the user's are dropped."""
    mark = LatentPart(np.zeros((1, 1), np.float32))
    messages: list[ChatMessage] = []
    for turn in row.field("conversations", list):
        role = turn.get("role") if isinstance(turn, dict) else None
        content = turn.get("content") if isinstance(turn, dict) else None
        if not messages and role != "user" and isinstance(content, str):
            continue
        if role not in ("user", "assistant") or not isinstance(content, str):
            raise row.fault(f"has a turn that is no user's or assistant's text: {str(turn)[:80]!r}")
        text = content.strip()
        said = role == "assistant" and text
        messages.append(ChatMessage(role, (mark, text, mark) if said else text))
    while messages and isinstance(messages[-1].content, str):
        messages.pop()
    if not messages:
        raise row.fault("has no answer of an assistant to a user")
    return messages


def _bounded(texts: Sequence[str], renderer: PromptRenderer, least: int, most: int) -> Iterator[LabelledTokens]:
    for encoded in _encode(texts, renderer):
        if len(encoded) < least or not encoded:
            continue
        whole = [*encoded, *_end(renderer)] if len(encoded) < most else encoded[:most]
        ids = np.array(whole, np.int32)
        yield LabelledTokens(ids, ids)


def _encode(texts: Iterable[str], renderer: PromptRenderer) -> Iterator[list[int]]:
    """Token ids as the tokenizer opens a text, without the end that some append by themselves."""
    opening = opening_ids(renderer)
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == _BATCH:
            yield from ([*opening, *ids] for ids in renderer.tokenizer.ids_of(batch))
            batch = []
    yield from ([*opening, *ids] for ids in renderer.tokenizer.ids_of(batch))


def _end(renderer: PromptRenderer) -> list[int]:
    end: Any = renderer.pretrained.eos_token_id
    return [] if end is None else [end]


__all__ = ["encode_conversation", "pack_texts", "read_samples"]
