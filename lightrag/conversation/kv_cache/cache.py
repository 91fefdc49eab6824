"""Encodes memories with a local model, keeps them in a folder or an object store, and answers over them.

An encoding is stored under the digest of the text it was made from, so that one of an older state is never found:
whoever asks computes the digest of what holds now. Nothing here decides when to encode.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from lightrag.conversation.index.view import MemoryView
from lightrag.conversation.kv_cache.text import MemoryText, memory_text
from lightrag.conversation.types import Scope
from lightrag.errors import ArtifactError, LimitError, NotFoundError
from lightrag.models.files import resolve_model
from lightrag.models.tokenization import HuggingFaceTokenizer
from lightrag.storage.objects import ObjectStore

if TYPE_CHECKING:
    from lightrag.memory import KVMemory, TextMemory
    from lightrag.memory.text_memory import Reply

KEPT_BYTES = 1024**3
"""Encoded memories that stay loaded."""


class Encoded(NamedTuple):
    """A memory that is ready to be asked."""

    memory: KVMemory
    text: MemoryText
    made: bool
    """Whether it had to be encoded just now."""


class KVCache:
    """Encoded memories of all users. Blocking; safe to use from several threads, which encode one after the other.

    Args:
        store: where encodings are kept.
        model: local path or hub id of a causal language model or a beacon checkpoint; loaded at the first use.
        device: as torch names it.
        max_tokens: of memory text that is encoded, in the model's own tokens.
        kept_bytes: encodings that stay loaded; the least recently used ones give way.
    """

    def __init__(
        self,
        store: ObjectStore,
        model: str,
        *,
        device: str = "cpu",
        max_tokens: int = 4096,
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        self.model = model
        self._store = store
        self._device = device
        self._max_tokens = max_tokens
        self._kept_bytes = kept_bytes
        self._kept: OrderedDict[Scope, tuple[str, KVMemory]] = OrderedDict()
        self._lock = threading.RLock()

    def text_of(self, view: MemoryView) -> MemoryText:
        """What of a memory would be encoded."""
        return memory_text(view, self._max_tokens, self._tokenizer)

    def encoded(self, scope: Scope, text: MemoryText) -> Encoded:
        """Return the encoding of a text, made or loaded if need be; older ones of the user are deleted.

        Raises:
            BackendError: the model or the store failed.
            LimitError: the text is longer than the model reads.
        """
        with self._lock:
            name = self._name(text)
            known = self._kept.get(scope)
            if known is not None and known[0] == name:
                self._kept.move_to_end(scope)
                return Encoded(known[1], text, made=False)
            memory = self._load(scope, name)
            made = memory is None
            if memory is None:
                memory = self._encode(scope, name, text)
            self._keep(scope, name, memory)
            return Encoded(memory, text, made)

    def ask(self, encoded: Encoded, question: str, *, beside: str = "", max_tokens: int = 256) -> Reply:
        """Answer a question over an encoding.

        Args:
            encoded: from :meth:`encoded`.
            question: in plain words.
            beside: memory text that the encoding does not hold.
            max_tokens: longest answer.
        """
        instruction = self._texts.prompts(encoded.text.language).fill("qa", question=question)
        if beside:
            instruction = f"{beside}\n\n{instruction}"
        return self._texts.ask(encoded.memory, [instruction], max_tokens=max_tokens)[0]

    def forget(self, scope: Scope) -> None:
        """Delete every encoding of a user."""
        with self._lock:
            self._kept.pop(scope, None)
            self._delete(scope, keep="")

    # --- Parts --------------------------------------------------------------------------------------------------------

    def _name(self, text: MemoryText) -> str:
        return f"{text.digest}-{self._texts.model.identity.fingerprint[:16]}"

    def _load(self, scope: Scope, name: str) -> KVMemory | None:
        from lightrag.memory import StorePlace, load_memory

        model = self._texts.model
        try:
            return load_memory(
                StorePlace(self._store, f"{_folder(scope)}/{name}"), model=model.identity, device=model.device
            )
        except (NotFoundError, ArtifactError):
            # Never finished, or damaged: it is derived from the history and made again.
            return None

    def _encode(self, scope: Scope, name: str, text: MemoryText) -> KVMemory:
        from lightrag.memory import StorePlace, save_memory

        try:
            memory = self._texts.memorise(text.text, language=text.language)
        except LimitError as error:
            raise LimitError(
                f"the memory text is longer than model {self.model!r} reads: lower kv_cache_tokens "
                f"({self._max_tokens}): {error}",
                subject="kv_cache_tokens",
            ) from error
        save_memory(memory, StorePlace(self._store, f"{_folder(scope)}/{name}"))
        self._delete(scope, keep=name)
        return memory

    def _keep(self, scope: Scope, name: str, memory: KVMemory) -> None:
        self._kept[scope] = (name, memory)
        self._kept.move_to_end(scope)
        while len(self._kept) > 1 and sum(kept.byte_count for _, kept in self._kept.values()) > self._kept_bytes:
            self._kept.popitem(last=False)

    def _delete(self, scope: Scope, keep: str) -> None:
        folder = _folder(scope)
        paths = [info.path for info in self._store.list(folder)]
        self._store.delete([path for path in paths if not keep or not path.startswith(f"{folder}/{keep}/")])

    @cached_property
    def _tokenizer(self) -> HuggingFaceTokenizer:
        return HuggingFaceTokenizer.open(resolve_model(self.model))

    @cached_property
    def _texts(self) -> TextMemory:
        from lightrag.memory import TextMemory, load_memory_model

        folder = resolve_model(self.model)
        return TextMemory.load(folder, load_memory_model(folder, device=self._device))


def _folder(scope: Scope) -> str:
    return f"{scope.tenant}/{scope.key}"


__all__ = ["KEPT_BYTES", "Encoded", "KVCache"]
