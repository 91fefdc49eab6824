"""The stages that run document by document: read (parse and chunk), embed, gist.

A stage turns a batch of documents into the same batch, further on. It holds its models, may be called many times in one
thread, and knows nothing of who schedules it: a plain loop, a worker of a cluster, a test. A document that a stage
cannot handle comes out with its failure and passes through the stages behind; only failures of the world (a store, a
model) are raised.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Protocol

import numpy as np

from lightrag.documents import parse_document
from lightrag.errors import BackendError, DataError, DocumentError, LimitError
from lightrag.ingestion.items import Source, content_fingerprint
from lightrag.ingestion.recipe import Recipe
from lightrag.ingestion.states import DocumentState, StageName
from lightrag.memory.gists import documents_gists
from lightrag.models.base import Embedder, FloatMatrix
from lightrag.retrieval.index import search_text
from lightrag.storage.tables import DocumentRow
from lightrag.types import Chunk

# Not the fault of the document that is being read when they occur.
_MACHINE: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO}
)


class Stage(Protocol):
    """One step of ingestion."""

    @property
    def name(self) -> StageName:
        """Names its results in staging and in reports."""
        ...

    def run(self, states: Sequence[DocumentState]) -> list[DocumentState]:
        """Take every document one stage further; those that are there already or have failed stay as they are.

        Raises:
            BackendError: a store or a model failed; nothing of the batch counts as done.
        """
        ...


class ReadStage:
    """Reads bytes from the source, parses them and cuts the text into chunks."""

    name: StageName = "read"

    def __init__(self, recipe: Recipe, source: Source) -> None:
        self._recipe = recipe
        self._source = source
        self._limit = recipe.settings.ingest.max_document_bytes

    def run(self, states: Sequence[DocumentState]) -> list[DocumentState]:
        """Parse and cut; see :class:`Stage`."""
        return [state if state.row or state.failure else self._timed(state) for state in states]

    def _timed(self, state: DocumentState) -> DocumentState:
        started = time.thread_time()
        try:
            state = self._read(state)
        except BackendError:
            raise
        except DocumentError as error:
            # What the operating system refuses today it may grant tomorrow; damage stays.
            state = state.failed("read", error.reason, str(error), permanent=error.reason != "unreadable")
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _MACHINE:
                raise BackendError(f"this machine failed while reading {state.item.source!r}: {error}") from error
            # The boundary between one document and all others: a parser's bug on this one must not cost the rest.
            message = f"{state.item.source!r} made its parser fail: {type(error).__name__}: {error}"
            state = state.failed("read", "damaged", message, permanent=not isinstance(error, MemoryError))
        return state.spent("read", time.thread_time() - started)

    def _read(self, state: DocumentState) -> DocumentState:
        item = state.item
        if item.size > self._limit:
            raise DocumentError(
                f"{item.source!r} has {item.size} bytes, more than the {self._limit} that ingest.max_document_bytes "
                "allows; split it, or raise the limit",
                subject=item.source,
                reason="too_large",
            )
        data = self._source.read(item)
        if item.fingerprint.startswith("blake3:") and content_fingerprint(data) != item.fingerprint:
            # Written to since it was listed: it is known by what was read, so that the next run sees what changed.
            item = replace(item, fingerprint=content_fingerprint(data))
            state = replace(state, item=item, keys=self._recipe.keys(state.document_id, item))
        document = parse_document(
            data,
            source=item.source,
            document_id=state.document_id,
            metadata=item.metadata,
            max_bytes=self._limit,
            title=item.title or None,
            media_type=item.media_type,
        )
        chunks = tuple(self._recipe.chunker.iter_chunks(document))
        row = DocumentRow(
            document_id=state.document_id,
            content_key="",  # the job that commits it says
            content_hash=document.content_hash,
            settings_hash=str(state.keys),
            source=item.source,
            title=document.title,
            media_type=document.media_type,
            language=document.language,
            chars=len(document.text),
            bytes=len(data),
            chunks=len(chunks),
            tokens=sum(chunk.tokens for chunk in chunks),
            sections=document.sections,
            metadata=document.metadata,
        )
        return replace(state, row=row, chunks=chunks)


class EmbedStage:
    """Gives every chunk its vector. One model load per stage object."""

    name: StageName = "embed"

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe

    def run(self, states: Sequence[DocumentState]) -> list[DocumentState]:
        """Embed all chunks of the batch together; see :class:`Stage`."""
        waiting = [index for index, state in enumerate(states) if state.row and state.vectors is None]
        result = list(states)
        if not waiting:
            return result
        started = time.process_time()
        try:
            vectors = self._embed([chunk for index in waiting for chunk in states[index].chunks])
        except (DataError, LimitError) as error:
            if len(waiting) > 1:
                # One of them is at fault, and the others must not pay for it.
                return [self.run([state])[0] for state in states]
            index = waiting[0]
            result[index] = states[index].failed("embed", "undecodable", str(error), permanent=True)
            return result
        seconds = (time.process_time() - started) / max(1, len(vectors))
        row = 0
        for index in waiting:
            count = len(states[index].chunks)
            result[index] = replace(states[index], vectors=vectors[row : row + count]).spent("embed", seconds * count)
            row += count
        return result

    def _embed(self, chunks: Sequence[Chunk]) -> FloatMatrix:
        embedder = self._recipe.embedder
        if not chunks:
            return np.zeros((0, 0), np.float32)
        texts = [embedded_text(chunk, embedder) for chunk in chunks]
        return self._recipe.run(embedder.embed(texts))


class GistStage:
    """Condenses every document's chunks into gists of level 0."""

    name: StageName = "gist"

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe

    def run(self, states: Sequence[DocumentState]) -> list[DocumentState]:
        """Condense all documents of the batch together, so that a model has much to do at once; see :class:`Stage`."""
        waiting = [index for index, state in enumerate(states) if state.row and state.gists is None]
        result = list(states)
        if not waiting:
            return result
        started = time.process_time()
        chunks = [states[index].chunks for index in waiting]
        try:
            made = self._recipe.run(documents_gists(chunks, self._recipe.gister, self._recipe.settings.gists))
        except (DataError, LimitError) as error:
            if len(waiting) > 1:
                # One of them is at fault, and the others must not pay for it.
                return [self.run([state])[0] for state in states]
            result[waiting[0]] = states[waiting[0]].failed("gist", "too_large", str(error), permanent=True)
            return result
        seconds = (time.process_time() - started) / max(1, sum(map(len, chunks)))
        for index, gists in zip(waiting, made, strict=True):
            spent = seconds * len(states[index].chunks)
            result[index] = replace(states[index], gists=tuple(gists)).spent("gist", spent)
        return result


def embedded_text(chunk: Chunk, embedder: Embedder) -> str:
    """The text under which a chunk is embedded: its place and its words, as much of its place as there is room for.

    The chunk's own words are never cut; what does not fit is left out, headings before the title.
    """
    text = search_text(chunk)
    # A token spans at least one byte, so that most texts need no counting.
    head_bytes = len(text.encode()) - len(chunk.text.encode())
    if chunk.tokens + head_bytes <= embedder.max_tokens or embedder.tokenizer.count(text) <= embedder.max_tokens:
        return text
    without_heading = search_text(replace(chunk, heading=""))
    return without_heading if embedder.tokenizer.count(without_heading) <= embedder.max_tokens else chunk.text


__all__ = ["EmbedStage", "GistStage", "ReadStage", "Stage", "embedded_text"]
