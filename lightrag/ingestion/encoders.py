"""The stage that encodes groups of documents, in one thread of one process: rows in, files of the corpus out.

Like the stages that run document by document it knows nothing of who schedules it, holds its model, and keeps a promise
in staging for every group that is done; what is done twice becomes garbage that vacuum removes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from lightrag.errors import BackendError
from lightrag.ingestion.encoding import MemoryRecipe
from lightrag.ingestion.group_reader import DocumentPart, GroupReader, usual_language
from lightrag.ingestion.group_units import GroupReceipt, GroupUnit
from lightrag.ingestion.line import Line
from lightrag.ingestion.routes import choose_routes, windows
from lightrag.memory.gists import Gister, documents_gists
from lightrag.models.base import FloatMatrix
from lightrag.models.files import quiet_loading
from lightrag.storage.groups import GROUP_FILE, DocumentGroup, GroupRole
from lightrag.types import Gist

if TYPE_CHECKING:
    from lightrag.latents.passages import PassageEncoder
    from lightrag.memory.gist_memory import MemoryGister
    from lightrag.memory.group_place import GroupPlace
    from lightrag.memory.kv_memory import KVMemory
    from lightrag.memory.text_memory import TextMemory

_PASSAGES_AT_ONCE = 64
"""Whose states are in memory unpacked."""


@dataclass(frozen=True, slots=True)
class _Encoded:
    """What the description of a group says of its content."""

    tokens: int
    _: KW_ONLY
    routes: FloatMatrix


class _Encoder(Protocol):
    """Writes what a group becomes."""

    def encode(self, parts: Sequence[DocumentPart], language: str, place: GroupPlace) -> _Encoded:
        """Encode documents together and write the files, all but the description."""
        ...

    def routes(self, parts: Sequence[DocumentPart]) -> FloatMatrix:
        """Directions by which questions find the documents."""
        ...


class GroupStation:
    """Encodes groups of one role. One model load per station. Belongs to one thread.

    Raises:
        ConfigurationError: the settings name no model for the role, or contradict each other.
        BackendError: the model is not there.
    """

    def __init__(self, line: Line, role: GroupRole) -> None:
        self._log = line.log
        self._staging = line.staging
        self._reader = GroupReader(line.log)
        self._encoder: _Encoder = MemoryEncoder(line) if role == "memory" else LatentsEncoder(line)

    def run(self, unit: GroupUnit) -> GroupReceipt:
        """Encode one group.

        Raises:
            BackendError: a store or a model failed; nothing of the group counts as done.
        """
        from lightrag.memory.group_place import GroupPlace

        began = time.process_time()
        parts = self._reader.read(unit)
        place = GroupPlace(self._log, unit.role, unit.group.key)
        if unit.described:
            described = replace(DocumentGroup.from_json(unit.described.encode()), routes=self._encoder.routes(parts))
        else:
            described = self._encode(unit, parts, place)
        described = replace(described, routes_key=unit.routes_key)
        place.write(GROUP_FILE, [described.to_json()])
        seconds = time.process_time() - began
        receipt = GroupReceipt(unit.role, unit.group.key, place.entries, described.tokens, seconds)
        if not unit.described:  # its other files are a version's, not a job's
            self._staging.put_group(receipt)
        return receipt

    def _encode(self, unit: GroupUnit, parts: Sequence[DocumentPart], place: GroupPlace) -> DocumentGroup:
        language = usual_language(parts)
        encoded = self._encoder.encode(parts, language, place)
        documents = {piece.document_id: piece.key for piece in unit.group.pieces}
        return DocumentGroup(
            unit.group.key, documents, encoded.tokens, language, encoded.routes, chunks=unit.group.partly
        )


class MemoryEncoder:
    """Makes KV memories as ``settings.memory`` says."""

    def __init__(self, line: Line) -> None:
        self._recipe = line.recipe
        self._memory = line.settings.memory
        self._gists = line.settings.gists
        self._about = MemoryRecipe(line.settings, line.recipe)

    @cached_property
    def _model(self) -> TextMemory:
        from lightrag.memory.memory_model import load_memory_model
        from lightrag.memory.text_memory import TextMemory

        memory = self._memory
        with quiet_loading():
            model = load_memory_model(self._about.folder, ratios=memory.ratio, dtype=memory.dtype, device=memory.device)
            return TextMemory.load(self._about.folder, model)

    @cached_property
    def _gister(self) -> MemoryGister:
        """The memory model, writing gists."""
        from lightrag.memory.gist_batches import TokenBatches, free_bytes
        from lightrag.memory.gist_memory import MemoryGister
        from lightrag.memory.group_window import bytes_per_token, positions_of

        model = self._model.model
        folder = self._about.folder
        batches = TokenBatches(bytes_per_token(folder, model.dtype.itemsize), lambda: free_bytes(model.device))
        return MemoryGister(self._model, self._about.tokenizer, batches, window=positions_of(folder))

    def encode(self, parts: Sequence[DocumentPart], language: str, place: GroupPlace) -> _Encoded:
        """Memorise the texts, or their gists, and write the memory."""
        from lightrag.memory.artifact.saving import save_memory

        gists = self._written_gists(parts, language) if self._about.writes_gists else None
        memory = self._memorised(parts, gists, language)
        save_memory(memory, place, quantisation="int8" if self._memory.storage == "int8" else "none")
        return _Encoded(memory.source_tokens, routes=self.routes(parts, gists))

    def _memorised(
        self, parts: Sequence[DocumentPart], gists: Sequence[Sequence[Gist]] | None, language: str
    ) -> KVMemory:
        if self._memory.kind != "gist":
            return self._model.memorise("\n\n".join(part.text for part in parts), language=language)
        gister: Gister = self._gister if gists is not None else self._recipe.gister
        text = self._gist_text(parts, gists or [part.gists for part in parts], gister, language)
        memory = self._model.memorise(text, language=language)
        return replace(memory, kind="gist") if memory.kind == "full" else memory

    def _written_gists(self, parts: Sequence[DocumentPart], language: str) -> list[list[Gist]]:
        return self._recipe.run(documents_gists([part.chunks for part in parts], self._gister, self._gists))

    def _gist_text(
        self, parts: Sequence[DocumentPart], gists: Sequence[Sequence[Gist]], gister: Gister, language: str
    ) -> str:
        from lightrag.memory.gist_memory import fitting_gists

        everything = [gist for own in gists for gist in own]
        if not any(gist.text.strip() for gist in everything):
            raise BackendError(
                f"no gist came of {len(parts)} documents, {parts[0].title!r} first: choose a model that follows "
                f"instructions instead of {self._memory.model!r}, or another memory.kind",
                subject=self._memory.model,
            )
        titles = {part.document_id: part.title for part in parts}
        taken = sum(self._about.tokenizer.count(title) + 2 for title in titles.values())
        budget = max(self._about.budget - taken, self._gists.tokens_per_gist)
        work = fitting_gists(everything, budget, self._about.tokenizer, gister, self._gists, language)
        kept = self._recipe.run(work)
        lines: list[str] = []
        for before, gist in zip([None, *kept], kept, strict=False):
            if gist.document_id and (before is None or before.document_id != gist.document_id):
                lines += ["", titles[gist.document_id]]
            lines.append(gist.text)
        return "\n".join(lines).strip()

    def routes(self, parts: Sequence[DocumentPart], written: Sequence[Sequence[Gist]] | None = None) -> FloatMatrix:
        """Directions of the gists: of those that the memory model has written, or of the corpus."""
        embedder = self._recipe.embedder
        texts = [gist.text for own in written or () for gist in own if gist.text.strip()]
        texts = texts or [gist.text for part in parts for gist in part.gists]
        # Where there is not one sentence, there are no gists; the passages themselves will do.
        texts = texts or [chunk.text for part in parts for chunk in part.chunks]
        pieces = [piece for text in texts for piece in windows(text, embedder)]
        return choose_routes(self._recipe.run(embedder.embed(pieces)))


class LatentsEncoder:
    """Encodes passages as ``settings.compression`` says, each by itself."""

    def __init__(self, line: Line) -> None:
        self._settings = line.settings.compression

    @cached_property
    def _encoder(self) -> PassageEncoder:
        from lightrag.latents.choice import open_passage_encoder

        with quiet_loading():
            return open_passage_encoder(self._settings)

    def encode(self, parts: Sequence[DocumentPart], language: str, place: GroupPlace) -> _Encoded:
        """Encode every passage and write one artifact with one part."""
        from lightrag.latents.store import HEADER_NAME, LatentsHeader, PartWriter
        from lightrag.memory.gist_batches import batched

        encoder = self._encoder
        part = PartWriter("part", encoder.hidden_size)
        for chunks in batched([chunk for each in parts for chunk in each.chunks], _PASSAGES_AT_ONCE):
            passages = encoder.tokenize([chunk.text for chunk in chunks])
            for chunk, states in zip(chunks, encoder.encode([each.ids for each in passages]), strict=True):
                part.add(chunk.chunk_id, states)
        place.write(f"{part.name}.rows", part.blocks)
        place.write(f"{part.name}.index", [part.index()])
        header = LatentsHeader(
            encoder.fingerprint, encoder.hidden_size, part.encoding, (part.name,), part.passages, part.tokens
        )
        place.write(HEADER_NAME, [header.to_json()])
        return _Encoded(part.tokens, routes=self.routes(parts))

    def routes(self, parts: Sequence[DocumentPart]) -> FloatMatrix:
        """None: latents are found by their passages."""
        return np.zeros((0, 0), np.float32)


__all__ = ["GroupStation", "LatentsEncoder", "MemoryEncoder"]
