"""How a stored memory of a corpus is held while it is asked: loaded into this process, or named to an engine."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from lightrag.errors import LimitError
from lightrag.memory.artifact.loading import load_memory
from lightrag.memory.artifact.places import StorePlace
from lightrag.memory.corpus_memory import StoredCorpusMemory
from lightrag.memory.engine_memory import StoredMemory
from lightrag.memory.kv_memory import KVMemory, ModelIdentity
from lightrag.memory.kv_recall import LanguageModelReader, LocalReader
from lightrag.memory.text_memory import Reply
from lightrag.models.base import EngineMemory, HealthChecked, LanguageModel, Warmable
from lightrag.models.base import KVMemory as LoadedMemory
from lightrag.storage.residency import Key, Loaded, Residency
from lightrag.types import CorpusVersion

if TYPE_CHECKING:
    from lightrag.memory.artifact.manifest import Manifest
    from lightrag.memory.text_memory import TextMemory


_KNOWN_PLACES = 4096
"""Memories whose files can be found while they are loaded; a few hundred bytes each."""


class MemoryHolder(Protocol):
    """Holds memories for the reader that asks them, and is that reader."""

    def hold(
        self, memory: StoredCorpusMemory, owner: CorpusVersion
    ) -> AbstractAsyncContextManager[LoadedMemory | EngineMemory]:
        """Hold a memory.

        Raises:
            ArtifactError: it is damaged, or another model made it.
            LimitError: it takes more than all memories may.
        """
        ...

    async def ask(
        self, memory: LoadedMemory | EngineMemory, instructions: Sequence[str], max_tokens: int
    ) -> list[Reply]:
        """See :class:`lightrag.memory.kv_recall.MemoryReader`."""
        ...

    @property
    def residency(self) -> Residency[KVMemory] | None:
        """Where they are held in this process, if they are."""
        ...

    async def warm(self) -> None:
        """Load the model now. Repeating costs nothing."""
        ...

    async def check_health(self) -> None:
        """Raise ``BackendError`` when the model is broken for good."""
        ...

    async def close(self) -> None:
        """Free everything."""
        ...


class LocalMemories:
    """Memories loaded on demand into a budget of bytes, and the model in this process that reads them.

    A memory that versions of a corpus share is loaded once for all of them.

    Args:
        load: loads the model; called in a thread, at the first use.
        budget_bytes: memory that loaded memories may take together.
        share: of that, what a tenant may fill at the cost of others.
    """

    def __init__(self, load: Callable[[], TextMemory], *, budget_bytes: int, share: float = 1.0) -> None:
        self._load = load
        self._loading: asyncio.Task[TextMemory] | None = None
        self._texts: TextMemory | None = None
        self._reader: LocalReader | None = None
        self._places: OrderedDict[Key, StorePlace] = OrderedDict()
        self._residency: Residency[KVMemory] = Residency(
            self._load_memory, capacity=budget_bytes, tenant_quota=max(1, int(share * budget_bytes))
        )

    @property
    def residency(self) -> Residency[KVMemory]:
        """What is loaded, for metrics."""
        return self._residency

    @asynccontextmanager
    async def hold(self, memory: StoredCorpusMemory, owner: CorpusVersion) -> AsyncIterator[LoadedMemory]:
        """Lease a loaded memory; see :class:`MemoryHolder`."""
        texts = await self._model()
        manifest = await asyncio.to_thread(memory.manifest)
        manifest.identity.check(texts.model.identity)
        # Named by its content, so that a new version finds the memories that did not change.
        key = Key(owner.tenant, f"{owner.corpus}/memory/{manifest.fingerprint}")
        self._remember(key, memory.place)
        size = _loaded_bytes(manifest, texts.model.dtype.itemsize)
        async with AsyncExitStack() as stack:
            try:
                held = await stack.enter_async_context(self._residency.lease(key, expected_bytes=size))
            except LimitError as error:
                raise LimitError(
                    f"a memory of {owner} takes {size} bytes, more than service.residency_bytes and "
                    "service.residency_share leave for it: raise them, or "
                    "ingest again with a smaller memory.window_tokens",
                    subject=str(owner),
                ) from error
            yield held

    async def ask(
        self, memory: LoadedMemory | EngineMemory, instructions: Sequence[str], max_tokens: int
    ) -> list[Reply]:
        """Ask in a thread; see :class:`MemoryHolder`."""
        texts = await self._model()
        self._reader = self._reader or LocalReader(texts)
        return await self._reader.ask(memory, instructions, max_tokens)

    async def warm(self) -> None:
        """Load the model."""
        await self._model()

    async def check_health(self) -> None:
        """Pass: a model in this process ends with it."""

    async def close(self) -> None:
        """Forget all memories and the model."""
        await self._residency.aclose()
        self._texts = self._reader = None

    async def _model(self) -> TextMemory:
        if self._texts is not None:
            return self._texts
        if self._loading is None or self._loading.done():
            self._loading = asyncio.create_task(asyncio.to_thread(self._load))
        # Whoever is cancelled while the model loads does not stop it for the others.
        self._texts = await asyncio.shield(self._loading)
        return self._texts

    async def _load_memory(self, key: Key) -> Loaded[KVMemory]:
        model = (await self._model()).model
        memory = await asyncio.to_thread(
            load_memory, self._places[key], model=model.identity, device=model.device, dtype=model.dtype
        )
        return Loaded(memory, memory.byte_count)

    def _remember(self, key: Key, place: StorePlace) -> None:
        self._places[key] = place
        self._places.move_to_end(key)
        while len(self._places) > _KNOWN_PLACES:
            self._places.popitem(last=False)


class EngineMemories:
    """Memories that an inference engine loads by itself, through its connector.

    Args:
        model: of the engine.
        identity: of that model.
        owned: the model is closed with this.
    """

    def __init__(self, model: LanguageModel, identity: Callable[[], ModelIdentity], *, owned: bool = True) -> None:
        self._reader = LanguageModelReader(model)
        self._model = model
        self._identity = identity
        self._owned = owned

    @property
    def residency(self) -> None:
        """The engine holds them."""
        return None

    @asynccontextmanager
    async def hold(self, memory: StoredCorpusMemory, owner: CorpusVersion) -> AsyncIterator[EngineMemory]:
        """Describe the memory to the engine; see :class:`MemoryHolder`."""
        manifest = await asyncio.to_thread(memory.manifest)
        # The engine checks too, but it can only fail the request without a reason.
        manifest.identity.check(await asyncio.to_thread(self._identity))
        yield StoredMemory.of(manifest, f"memory {memory.group.key}", owner=str(owner), paths=memory.paths)

    async def ask(
        self, memory: LoadedMemory | EngineMemory, instructions: Sequence[str], max_tokens: int
    ) -> list[Reply]:
        """Ask the engine, which batches; see :class:`MemoryHolder`."""
        return await self._reader.ask(memory, instructions, max_tokens)

    async def warm(self) -> None:
        """Start the engine, where it is this process that holds it."""
        if isinstance(self._model, Warmable):
            await self._model.warm()

    async def check_health(self) -> None:
        """Ask the engine, where it is this process that holds it."""
        if isinstance(self._model, HealthChecked):
            await self._model.check_health()

    async def close(self) -> None:
        """Stop the engine, if nobody else uses it."""
        if self._owned:
            await self._model.close()


def _loaded_bytes(manifest: Manifest, item_bytes: int) -> int:
    cells = manifest.layers * manifest.kv_heads * manifest.cells
    return 2 * cells * manifest.head_dim * item_bytes


@dataclass(frozen=True, slots=True)
class HeldMemory:
    """A stored memory with its holder; satisfies :class:`lightrag.memory.kv_recall.AskableMemory`."""

    stored: StoredCorpusMemory
    owner: CorpusVersion
    holder: MemoryHolder

    @property
    def language(self) -> str:
        """Language of most of its text."""
        return self.stored.group.language

    def lease(self) -> AbstractAsyncContextManager[LoadedMemory | EngineMemory]:
        """Hold it."""
        return self.holder.hold(self.stored, self.owner)


__all__ = ["EngineMemories", "HeldMemory", "LocalMemories", "MemoryHolder"]
