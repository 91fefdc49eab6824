"""Serves stored memories inside vLLM: a connector that writes them into the paged cache before a request's first step.

Start the engine with::

    KVTransferConfig(
        kv_connector="MemoryConnector",
        kv_connector_module_path="lightrag.memory.vllm_connector",
        kv_role="kv_both",
        kv_connector_extra_config={"root": "s3://bucket/prefix", "cache_bytes": 8 * 2**30},
    )

A request's prompt is ``cells`` placeholder tokens and the question's tokens; its ``kv_transfer_params`` and
``cache_salt`` are those of a :class:`~lightrag.memory.engine_memory.StoredMemory`. Full, gist and beacon memories are
all alike here: rotated keys and values for positions 0…cells-1. Cells that the prefix cache still holds are not loaded
again.

This module imports vLLM; only the engine imports this module.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor
from vllm.distributed import get_tensor_model_parallel_rank, get_tensor_model_parallel_world_size
from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorMetadata,
    KVConnectorRole,
)
from vllm.model_executor.models.utils import extract_layer_index

from lightrag.errors import ArtifactError, ConfigurationError, LightRAGError, UsageError
from lightrag.memory.engine_memory import StoredMemory, heads_of_rank
from lightrag.memory.identity import identify_model
from lightrag.memory.loaded_memories import LoadedMemories
from lightrag.models.files import resolve_model
from lightrag.storage.objects import open_object_store

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.forward_context import ForwardContext
    from vllm.v1.core.kv_cache_manager import KVCacheBlocks
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.kv_cache_interface import KVCacheConfig
    from vllm.v1.request import Request

_LOG = logging.getLogger(__name__)
_DEFAULT_CACHE_BYTES: Final = 4 * 2**30


@dataclass(frozen=True, slots=True)
class _Load:
    """Cells ``first`` to ``memory.cells`` of a memory, and the blocks they go to."""

    memory: StoredMemory
    first: int
    block_ids: tuple[int, ...]


@dataclass
class _Loads(KVConnectorMetadata):
    """What the workers have to load before a step."""

    loads: list[_Load] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Pending:
    """A request whose blocks were allocated and whose cells have to be loaded in its first step."""

    memory: StoredMemory
    first: int


class MemoryConnector(KVConnectorBase_V1):
    """See the module. One instance lives in the scheduler and one in each worker."""

    def __init__(self, vllm_config: VllmConfig, role: KVConnectorRole, kv_cache_config: KVCacheConfig) -> None:
        super().__init__(vllm_config=vllm_config, role=role, kv_cache_config=kv_cache_config)
        settings = vllm_config.kv_transfer_config
        if settings.kv_load_failure_policy != "fail":
            raise ConfigurationError(
                "kv_load_failure_policy must be 'fail': a memory that cannot be loaded has no text to recompute it from"
            )
        root = settings.get_from_extra_config("root", None)
        if not isinstance(root, str):
            raise ConfigurationError("kv_connector_extra_config needs 'root': the URL of the store that holds memories")
        self._block_size: int = vllm_config.cache_config.block_size
        self._pending: dict[str, _Pending] = {}
        self._failed_blocks: set[int] = set()
        if role == KVConnectorRole.WORKER:
            # In the model's dtype; the attention backend quantises where its cache is smaller.
            self._dtype: torch.dtype = vllm_config.model_config.dtype
            self._heads = heads_of_rank(
                vllm_config.model_config.get_total_num_kv_heads(),
                get_tensor_model_parallel_rank(),
                get_tensor_model_parallel_world_size(),
            )
            self._memories = LoadedMemories(
                open_object_store(root, settings.get_from_extra_config("store_options", {})),
                identify_model(Path(resolve_model(vllm_config.model_config.model))),
                int(settings.get_from_extra_config("cache_bytes", _DEFAULT_CACHE_BYTES)),
            )

    # --- Scheduler ----------------------------------------------------------------------------------------------------

    def get_num_new_matched_tokens(self, request: Request, num_computed_tokens: int) -> tuple[int | None, bool]:
        """Count the cells that the prefix cache does not hold."""
        memory = _memory_of(request)
        return (max(memory.cells - num_computed_tokens, 0), False) if memory else (0, False)

    def update_state_after_alloc(self, request: Request, blocks: KVCacheBlocks, num_external_tokens: int) -> None:
        """Remember what a request that got its blocks has to load."""
        memory = _memory_of(request)
        if memory and num_external_tokens > 0:
            self._pending[request.request_id] = _Pending(memory, memory.cells - num_external_tokens)

    def build_connector_meta(self, scheduler_output: SchedulerOutput) -> KVConnectorMetadata:
        """Order the loads of this step: for new requests and for those that come back after preemption."""
        blocks = {request.req_id: request.block_ids for request in scheduler_output.scheduled_new_reqs}
        cached = scheduler_output.scheduled_cached_reqs
        for request_id, block_ids in zip(cached.req_ids, cached.new_block_ids, strict=True):
            if request_id in cached.resumed_req_ids and block_ids is not None:
                blocks[request_id] = block_ids
        loads = _Loads()
        for request_id, pending in self._pending.items():
            if request_id not in blocks:
                raise RuntimeError(f"request {request_id!r} got cells of a memory but was not scheduled")
            loads.loads.append(_Load(pending.memory, pending.first, tuple(blocks[request_id][0])))
        self._pending.clear()
        return loads

    # --- Worker -------------------------------------------------------------------------------------------------------

    def start_load_kv(self, forward_context: ForwardContext, **kwargs: Any) -> None:
        """Write every ordered memory into the cache; where one cannot be loaded, its request fails, not the engine."""
        metadata = self._get_connector_metadata()
        assert isinstance(metadata, _Loads)  # noqa: S101  # ours
        layers = {
            extract_layer_index(name): layer
            for name, layer in forward_context.no_compile_layers.items()
            if hasattr(layer, "kv_cache")
        }
        for load in metadata.loads:
            try:
                self._load(load, layers)
            except LightRAGError as error:
                _LOG.exception("memory %r of %s cannot be loaded: %s", load.memory.prefix, load.memory.owner, error)
                first_block, end_block = load.first // self._block_size, -(-load.memory.cells // self._block_size)
                self._failed_blocks.update(load.block_ids[first_block:end_block])

    def get_block_ids_with_load_errors(self) -> set[int]:
        """Hand over, once, the blocks that could not be filled."""
        failed, self._failed_blocks = self._failed_blocks, set()
        return failed

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Loads are complete when :meth:`start_load_kv` returns."""

    def save_kv_layer(self, layer_name: str, kv_layer: Tensor, attn_metadata: Any, **kwargs: Any) -> None:
        """Memories are written by jobs, not by the engine."""

    def wait_for_save(self) -> None:
        """Nothing is saved."""

    def _load(self, load: _Load, layers: Mapping[int, Any]) -> None:
        memory = self._memories.get(load.memory)
        if len(memory.keys) <= max(layers):
            raise ArtifactError(f"the memory has {len(memory.keys)} layers, the engine needs layer {max(layers)}")
        slots: Tensor | None = None
        for index, layer in layers.items():
            cache = layer.kv_cache
            if slots is None:
                slots = _slots(load, self._block_size).to(cache.device)
            key, value = (
                side[index][self._heads, load.first :].transpose(0, 1).to(cache.device, self._dtype).contiguous()
                for side in (memory.keys, memory.values)
            )
            layer.impl.do_kv_cache_update(layer, key, value, cache, slots)


def _memory_of(request: Request) -> StoredMemory | None:
    """Read which memory a request stands behind.

    The scheduler must not fail for one bad request. So a description that makes no sense becomes a memory that cannot
    be loaded, and the request fails where others do: in the worker.
    """
    room = request.num_prompt_tokens - 1
    try:
        memory = StoredMemory.from_params(request.kv_transfer_params)
    except UsageError as error:
        _LOG.error("request %s: %s", request.request_id, error)
        return StoredMemory("", room, "", "invalid")
    if memory is not None and not 0 < memory.cells <= room:
        _LOG.error("request %s: %d cells in a prompt of %d tokens", request.request_id, memory.cells, room + 1)
        return StoredMemory("", room, "", memory.owner)
    return memory


def _slots(load: _Load, block_size: int) -> Tensor:
    places = torch.arange(load.first, load.memory.cells)
    blocks = torch.tensor(load.block_ids)
    return blocks[places // block_size] * block_size + places % block_size


__all__ = ["MemoryConnector"]
