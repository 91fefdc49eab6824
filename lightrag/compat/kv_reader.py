"""Reads texts into KV memories with a local checkpoint: compressed, whole, or as gists that it wrote itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lightrag.compat.condensing import condense
from lightrag.compat.context_file import read_context, write_context
from lightrag.compat.readers import Remembered
from lightrag.errors import ArtifactError, BackendError, LimitError
from lightrag.memory.prompts import PromptSet
from lightrag.models.tokenization import HuggingFaceTokenizer

if TYPE_CHECKING:
    from lightrag.memory.gist_memory import MemoryGister
    from lightrag.memory.memory_model import MemoryModel
    from lightrag.memory.text_memory import TextMemory


_LEAST_ROOM: Final = 128
"""Positions that a memory of every token must leave free."""
_LEAST_ANSWER: Final = 16


class KVReader:
    """Holds one model with its tokenizer; memories are values. See :class:`~lightrag.compat.readers.Reader`.

    Args:
        folder: of the checkpoint.
        model: loaded from it.
        gists: memorise gists of a text instead of the text.
    """

    def __init__(self, folder: Path, model: MemoryModel, *, gists: bool = False) -> None:
        from transformers import AutoTokenizer

        self.model = model
        self._folder = folder
        self._gists = gists
        try:
            self._pretrained: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise BackendError(f"tokenizer of {str(folder)!r} cannot be read: {error}", subject=str(folder)) from error
        if not self._pretrained.is_fast:
            raise BackendError(f"model {str(folder)!r} has no fast tokenizer; save it once as tokenizer.json")

    @cached_property
    def tokenizer(self) -> HuggingFaceTokenizer:
        """The model's own."""
        return HuggingFaceTokenizer(self._pretrained.backend_tokenizer)

    @cached_property
    def window(self) -> int | None:
        """Positions of the model."""
        from lightrag.memory.beacon.config import read_config

        positions = read_config(self._folder).get("max_position_embeddings")
        return int(positions) if positions else None

    @property
    def compresses(self) -> bool:
        """Whether memories are smaller than what was read."""
        from lightrag.memory.beacon.model import BeaconModel

        return isinstance(self.model, BeaconModel)

    def memorise(self, text: str, language: str, prompts: PromptSet) -> Remembered:
        """Read a text, or first condense it where that was asked for.

        Raises:
            LimitError: the text is longer than the model's window; a compressing model may read on beyond it.
            UsageError: the text is empty.
        """
        texts = self._texts(prompts)
        tokens = self.tokenizer.count(text)
        gists = self._condensed(text, language, texts) if self._gists else ""
        if not self.compresses:
            self._check_capacity(len(texts.context_ids(gists or text, texts.prompts(language))))
        memory = texts.memorise(gists or text, language=language)
        return Remembered(language, tokens, cells=replace(memory, kind="gist") if gists else memory, text=gists)

    def ask(self, held: Remembered, instructions: Sequence[str], max_tokens: int, prompts: PromptSet) -> list[str]:
        """Follow instructions over one memory, which all of them share; answers end where the window does.

        Raises:
            LimitError: memory and instruction leave no room for an answer in a model that keeps every token.
        """
        if held.cells is None:
            raise ArtifactError("this memory holds text, not cells: it was made by a chat model")
        texts = self._texts(prompts)
        if not self.compresses:
            max_tokens = min(self._room(texts, instructions, held.cells.cells) or max_tokens, max_tokens)
        return [reply.text for reply in texts.ask(held.cells, instructions, max_tokens=max_tokens)]

    def generate(self, prompts: Sequence[str], max_tokens: int, held: Remembered | None) -> list[str]:
        """Answer prompts; a compressing model keeps its memory in front of them, as it was trained to.

        Raises:
            LimitError: a prompt leaves no room for an answer.
        """
        texts = self._texts(None)
        max_tokens = min(self._room(texts, prompts) or max_tokens, max_tokens)
        if held is not None and held.cells is not None and self.compresses:
            return [reply.text for reply in texts.ask(held.cells, prompts, max_tokens=max_tokens)]
        return [reply.text for reply in texts.complete(prompts, max_tokens=max_tokens)]

    def save(self, held: Remembered, folder: Path) -> None:
        """Write cells as safetensors with ``memory.json``, and what is known of the text."""
        from lightrag.memory.artifact.saving import save_memory

        if held.cells is None:
            raise ArtifactError("this memory holds text, not cells: it was made by a chat model")
        write_context(held, folder)
        save_memory(held.cells, folder)

    def load(self, path: Path) -> Remembered:
        """Read a folder of ours, or a published ``memory.bin`` of a compressing model.

        Raises:
            ArtifactError: it is damaged, another model made it, or it is of a kind that cannot be read safely.
        """
        if path.is_file():
            return self._published(path)
        from lightrag.memory.artifact.loading import load_memory
        from lightrag.memory.artifact.manifest import MANIFEST_NAME

        about = read_context(path)
        if not (path / MANIFEST_NAME).is_file():
            raise ArtifactError(
                f"{str(path)!r} holds the text memory of a chat model: load it with an Agent, or memorise again",
                subject=str(path),
            )
        cells = load_memory(path, model=self.model.identity, device=self.model.device, dtype=self.model.dtype)
        return replace(about, cells=cells, source_tokens=about.source_tokens or cells.source_tokens)

    def _published(self, path: Path) -> Remembered:
        from lightrag.memory.beacon.model import BeaconModel
        from lightrag.memory.beacon.published import import_published_memory

        if not isinstance(self.model, BeaconModel):
            raise ArtifactError(
                f"{str(path)!r}: the published file of a full-context memory runs code when it is read, so it is not "
                "read here; memorise the text again. Files of beacon memories can be read, by the model that made them",
                subject=str(path),
            )
        cells = import_published_memory(path, self.model)
        return Remembered("und", cells.source_tokens, cells=cells)

    def _texts(self, prompts: PromptSet | None) -> TextMemory:
        from lightrag.memory.text_memory import TextMemory

        return TextMemory(self.model, self._pretrained, prompts=prompts)

    def _condensed(self, text: str, language: str, texts: TextMemory) -> str:
        from lightrag.memory.group_window import longest_text

        budget = longest_text(self._folder)
        work = condense(text, language, self._gister(texts), window=self.window or budget, budget=budget)
        # The gister computes inside its coroutine: on a loop of its own, so that no other call waits for it.
        with ThreadPoolExecutor(1, thread_name_prefix="lightrag-gists") as worker:
            return worker.submit(asyncio.run, work).result()

    def _gister(self, texts: TextMemory) -> MemoryGister:
        from lightrag.memory.gist_batches import TokenBatches, free_bytes
        from lightrag.memory.gist_memory import MemoryGister
        from lightrag.memory.group_window import bytes_per_token, longest_text

        cost = bytes_per_token(self._folder, self.model.dtype.itemsize)
        batches = TokenBatches(cost, lambda: free_bytes(self.model.device))
        return MemoryGister(texts, self.tokenizer, batches, window=self.window or longest_text(self._folder))

    def _check_capacity(self, cells: int) -> None:
        if self.window is not None and cells + _LEAST_ROOM > self.window:
            raise LimitError(
                f"the text takes {cells:,} of the {self.window:,} positions of {str(self._folder)!r}, which keeps "
                f"every token, and {_LEAST_ROOM} are needed for questions: take a beacon checkpoint, a model with a "
                "larger window, or MemoRAGLite, which memorises gists",
                subject=str(self._folder),
            )

    def _room(self, texts: TextMemory, prompts: Sequence[str], cells: int = 0) -> int | None:
        """Positions left for an answer behind memory and prompt; ``None`` where nobody knows.

        Raises:
            LimitError: there are hardly any.
        """
        if self.window is None:
            return None
        longest = max(len(texts.instruction_ids(prompt)) for prompt in prompts)
        room = self.window - cells - longest
        if room < _LEAST_ANSWER:
            memory = f"a memory of {cells:,} cells and " if cells else ""
            raise LimitError(
                f"{memory}a prompt of {longest:,} tokens leave no room for an answer in the {self.window:,} positions "
                f"of {str(self._folder)!r}",
                subject=str(self._folder),
            )
        return room


__all__ = ["KVReader"]
