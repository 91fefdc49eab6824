"""Embedding models behind the OpenAI interface."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np

from lightrag.errors import BackendError, ConfigurationError, LimitError
from lightrag.models.base import FloatMatrix
from lightrag.models.concurrency import all_or_none
from lightrag.models.remote.connection import Connection
from lightrag.models.remote.providers import Endpoint
from lightrag.models.tokenization import EstimatingTokenizer
from lightrag.models.vectors import unit_rows

if TYPE_CHECKING:
    from openai import AsyncOpenAI

Kind = Literal["document", "query"]

MOST_INPUTS: Final = 256
"""Texts in one request."""


class _Known(NamedTuple):
    dimension: int
    max_tokens: int
    shortens: bool
    """Can be asked for shorter vectors."""


_KNOWN: Final = {
    "text-embedding-3-small": _Known(1536, 8191, shortens=True),
    "text-embedding-3-large": _Known(3072, 8191, shortens=True),
    "text-embedding-ada-002": _Known(1536, 8191, shortens=False),
}


class OpenAIEmbedder:
    """Embeds at OpenAI or a compatible server, with the limits and retries of the chat models.

    Texts are counted by an estimate from above, so a document may be refused that the server would just have taken.
    """

    languages: frozenset[str] = frozenset()

    def __init__(
        self,
        model: str,
        endpoint: Endpoint,
        *,
        dimension: int | None = None,
        max_tokens: int | None = None,
        batch_tokens: int = 8192,
        query_prefix: str = "",
        document_prefix: str = "",
        max_retries: int = 4,
        max_concurrency: int = 8,
    ) -> None:
        """Describe the embedder; nothing is sent yet.

        Args:
            model: as the service names it.
            endpoint: from :func:`lightrag.models.remote.providers.endpoint`.
            dimension: length of its vectors; OpenAI's models know theirs and can be asked for shorter ones.
            max_tokens: longest text that it reads; OpenAI's models know theirs.
            batch_tokens: estimated tokens in one request, at most.
            query_prefix: put before queries.
            document_prefix: put before documents.
            max_retries: further attempts after a passing fault.
            max_concurrency: requests under way at once, at most.

        Raises:
            ConfigurationError: ``dimension`` or ``max_tokens`` of an unknown model is missing.
        """
        known = _KNOWN.get(model)
        dimension = dimension or (known.dimension if known else None)
        max_tokens = max_tokens or (known.max_tokens if known else None)
        if dimension is None or max_tokens is None:
            missing = [name for name, value in (("dimension", dimension), ("max_tokens", max_tokens)) if value is None]
            raise ConfigurationError(
                f"remote embedder {model!r} does not say its {' and '.join(missing)}; "
                f"set {' and '.join(f'embedder.{name}' for name in missing)}",
                subject=model,
            )
        self.name = model
        self.dimension = dimension
        self.tokenizer = EstimatingTokenizer()
        self._prefixes: dict[Kind, str] = {"query": query_prefix, "document": document_prefix}
        self.max_tokens = max_tokens - max(map(self.tokenizer.count, self._prefixes.values()))
        self.fingerprint = _fingerprint(model, dimension, self._prefixes)
        self._batch_tokens = batch_tokens
        self._shortened = {"dimensions": dimension} if known and known.shortens and dimension < known.dimension else {}
        self._connection = Connection(endpoint, model, max_retries=max_retries, max_concurrency=max_concurrency)

    async def embed(self, texts: Sequence[str], kind: Kind = "document") -> FloatMatrix:
        """Embed texts; a long query is cut into windows whose vectors are averaged.

        Returns:
            Unit rows of shape (len(texts), dimension).

        Raises:
            LimitError: a document is longer than :attr:`max_tokens` by estimate.
            BackendError: the service failed, or its vectors have another length than ``dimension``.
        """
        windows, owners, weights = self._windows(texts, kind)
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        batches = self._batches(weights)
        answers = await all_or_none(self._request([windows[index] for index in batch]) for batch in batches)
        for batch, rows in zip(batches, answers, strict=True):
            shares = np.array([weights[index] for index in batch], dtype=np.float32)[:, None]
            np.add.at(vectors, [owners[index] for index in batch], rows * shares)
        return unit_rows(vectors)

    async def close(self) -> None:
        """Close the connections."""
        await self._connection.close()

    def _windows(self, texts: Sequence[str], kind: Kind) -> tuple[list[str], list[int], list[int]]:
        """Cut texts where they must be; returns windows, the text each belongs to, and their estimated tokens."""
        windows, owners, weights = [], [], []
        for index, text in enumerate(texts):
            spans = self.tokenizer.spans(text)
            if len(spans) > self.max_tokens and kind == "document":
                raise LimitError(
                    f"text {index}, beginning {text[:40]!r}, has about {len(spans)} tokens; embedder {self.name!r} "
                    f"reads {self.max_tokens}; cut it into shorter chunks",
                    subject=self.name,
                )
            for first in range(0, max(1, len(spans)), self.max_tokens):
                part = spans[first : first + self.max_tokens]
                whole = len(spans) <= self.max_tokens
                windows.append(self._prefixes[kind] + (text if whole else text[part[0].start : part[-1].end]))
                owners.append(index)
                weights.append(max(1, len(part)))
        return windows, owners, weights

    def _batches(self, weights: list[int]) -> list[list[int]]:
        batches: list[list[int]] = []
        filled = 0
        for index, weight in enumerate(weights):
            if not batches or filled + weight > self._batch_tokens or len(batches[-1]) == MOST_INPUTS:
                batches.append([])
                filled = 0
            batches[-1].append(index)
            filled += weight
        return batches

    async def _request(self, texts: list[str]) -> FloatMatrix:
        # A blank input is refused by OpenAI; a single space is not.
        inputs = [text or " " for text in texts]
        parameters = {"model": self.name, "input": inputs, "encoding_format": "float", **self._shortened}
        async with self._connection.call(_send, parameters) as answer:
            rows = [item.embedding for item in sorted(answer.data, key=lambda item: item.index)]
        if len(rows) != len(texts) or any(len(row) != self.dimension for row in rows):
            lengths = sorted({len(row) for row in rows})
            raise BackendError(
                f"embedder {self.name!r} returned {len(rows)} vectors of length {lengths} for {len(texts)} texts, "
                f"not of {self.dimension}; set embedder.dimension",
                subject=self.name,
            )
        return unit_rows(np.array(rows, dtype=np.float32))


async def _send(client: AsyncOpenAI, parameters: dict[str, Any]) -> Any:
    return await client.embeddings.create(**parameters)


def _fingerprint(model: str, dimension: int, prefixes: dict[Kind, str]) -> str:
    from blake3 import blake3

    return blake3(json.dumps(["openai", model, dimension, prefixes]).encode()).hexdigest(16)


__all__ = ["OpenAIEmbedder"]
