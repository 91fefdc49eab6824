"""Full-context memories of any Hugging Face decoder: every token read becomes a cell.

Knows nothing of prompts or tokenizers. The model runs with an attention function of ours, which keeps the cache, so
several questions read one memory where it lies, and neither masks nor logits of the text are ever made.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

import torch
from torch import Tensor

from lightrag.errors import BackendError, ConfigurationError, LimitError, UsageError
from lightrag.memory.identity import identify_model
from lightrag.memory.kv_batch import CacheShape, KVBatch
from lightrag.memory.kv_memory import KVMemory, ModelIdentity, RopeState, rope_state
from lightrag.memory.rope import RopeTable, move_keys
from lightrag.models.packing import pack_linear_layers

_ATTENTION: Final = "lightrag_kv_batch"
_CHUNK_TOKENS: Final = 2048
_REGISTERING = threading.Lock()


class FullContextModel:
    """A loaded decoder (Llama, Qwen2/2.5/3, Mistral, Phi, …). Safe to use from several threads.

    Example::

        model = FullContextModel.load("path/to/checkpoint")
        memory = model.memorise(token_ids)
    """

    def __init__(self, model: Any, identity: ModelIdentity) -> None:
        self._model = model
        self._decoder = model.get_decoder()
        self.identity = identity
        config = model.config
        heads = config.num_attention_heads
        self.cache_shape = CacheShape(
            config.num_hidden_layers,
            getattr(config, "num_key_value_heads", None) or heads,
            getattr(config, "head_dim", None) or config.hidden_size // heads,
        )
        self.window = _attention_window(config)
        """Positions that attention reaches back; ``None`` for all."""
        self.rope = self._probe_rope()

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        quantization_config: Any = None,
    ) -> FullContextModel:
        """Load a checkpoint.

        Args:
            folder: in Hugging Face layout.
            dtype: of weights and memories.
            device: of weights and memories.
            quantization_config: of transformers, to quantise the weights while they are loaded.

        Raises:
            ConfigurationError: the folder is not a decoder's, or its attention cannot be replaced.
        """
        from safetensors import SafetensorError
        from transformers import AutoModelForCausalLM

        _register_attention()
        placed = {"quantization_config": quantization_config, "device_map": {"": str(device)}}
        try:
            model, loaded = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=dtype,
                attn_implementation=_ATTENTION,
                local_files_only=True,
                output_loading_info=True,
                **(placed if quantization_config is not None else {}),
            )
        except (OSError, ValueError, SafetensorError) as error:
            raise ConfigurationError(
                f"{str(folder)!r} cannot be loaded as a decoder for full-context memories: {error}", subject=str(folder)
            ) from error
        missing = sorted(loaded["missing_keys"])
        if missing:
            # transformers would go on with random numbers in their place.
            raise ConfigurationError(
                f"{str(folder)!r} is not a whole decoder: it lacks {len(missing)} weights, {missing[0]!r} for one",
                subject=str(folder),
            )
        model = model.to(device).eval().requires_grad_(False)
        pack_linear_layers(model)
        return cls(model, identify_model(Path(folder)))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._model.get_output_embeddings().weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights and of memories."""
        return self._model.get_output_embeddings().weight.dtype

    @property
    def vocab_size(self) -> int:
        """Token ids are below this."""
        return int(self._model.config.vocab_size)

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """Tokens that end an answer."""
        eos = self._model.generation_config.eos_token_id
        return tuple(eos) if isinstance(eos, list) else (() if eos is None else (int(eos),))

    def session(self, memories: Sequence[KVMemory | None]) -> FullSession:
        """Start reading a batch of sequences over memories, each with a length of its own.

        Raises:
            ArtifactError: another model made one of the memories.
        """
        for memory in memories:
            if memory is not None:
                memory.model.check(self.identity)
        return FullSession(self, [memory.to(self.device, self.dtype) if memory else None for memory in memories])

    def memorise(self, token_ids: Sequence[int], *, onto: KVMemory | None = None) -> KVMemory:
        """Read a text into a memory; see :meth:`memorise_batch`."""
        return self.memorise_batch([token_ids], onto=[onto])[0]

    def memorise_batch(
        self, token_ids: Sequence[Sequence[int]], *, onto: Sequence[KVMemory | None] | None = None
    ) -> list[KVMemory]:
        """Read several texts of any lengths together, in chunks, without padding and without logits.

        Args:
            token_ids: one list per text.
            onto: memories to append to, exactly as if everything had been read in one go.

        Raises:
            UsageError: a text is empty, or a token is unknown.
            ArtifactError: another model made a memory in ``onto``.
            LimitError: a text is longer than the attention window of this model.
        """
        if not token_ids or not all(len(ids) for ids in token_ids):
            raise UsageError("there is nothing to read: every sequence needs at least one token")
        session = self.session(onto if onto is not None else [None] * len(token_ids))
        session.read(token_ids, logits="none")
        return session.freeze()

    def forward(self, token_ids: Tensor, positions: Tensor, batch: KVBatch) -> Tensor:
        """Run packed rows, shape (rows,), through all layers; returns hidden states of shape (rows, hidden)."""
        output = self._decoder(input_ids=token_ids[None], position_ids=positions[None], use_cache=False, kv_batch=batch)
        return output.last_hidden_state[0]

    def logits(self, states: Tensor) -> Tensor:
        """Return float32 logits of shape (rows, vocabulary)."""
        scores: Tensor = self._model.get_output_embeddings()(states).float()
        softcap = getattr(self._model.config, "final_logit_softcapping", None)
        return softcap * torch.tanh(scores / softcap) if softcap else scores

    @torch.inference_mode()
    def _probe_rope(self) -> RopeState:
        """Find out by trying whether keys can be moved: one token at two positions must differ by a rotation."""
        rotary = getattr(self._decoder, "rotary_emb", None)
        inverse = getattr(rotary, "inv_freq", None)
        kind = (getattr(self._model.config, "rope_parameters", None) or {}).get("rope_type", "default")
        batch = KVBatch(self.cache_shape, [None, None], dtype=self.dtype, device=self.device)
        batch.begin([1, 1])
        device = self.device
        try:
            self.forward(torch.zeros(2, dtype=torch.long, device=device), torch.tensor([0, 5], device=device), batch)
        except TypeError as error:
            raise ConfigurationError(
                f"{type(self._model).__name__} does not let its attention be replaced: {error}"
            ) from error
        batch.finish()
        if not isinstance(inverse, Tensor) or kind in ("dynamic", "longrope"):
            return RopeState(())
        table = RopeTable(inverse.float().cpu(), float(getattr(rotary, "attention_scaling", 1.0)))
        for layer in range(self.cache_shape.layers):
            first, moved = (batch.own_cells(layer, sequence)[0].cpu() for sequence in (0, 1))
            if layer == 0 and not torch.allclose(
                move_keys(first, torch.tensor([0]), torch.tensor([5]), table).float(), moved.float(), atol=1e-2
            ):
                return RopeState(())
        return rope_state(table)


class FullSession:
    """Reads further tokens into a batch of sequences; see :class:`FullContextModel`."""

    def __init__(self, model: FullContextModel, memories: Sequence[KVMemory | None]) -> None:
        self._model = model
        self._memories = list(memories)
        self._read: list[list[int]] = [[] for _ in memories]
        self._batch = KVBatch(
            model.cache_shape,
            [(memory.keys, memory.values) if memory else None for memory in memories],
            dtype=model.dtype,
            device=model.device,
        )

    def __len__(self) -> int:
        return len(self._read)

    @torch.inference_mode()
    def read(
        self,
        token_ids: Sequence[Sequence[int]],
        *,
        logits: Literal["none", "last", "all"] = "last",
        protect: bool = True,
    ) -> list[Tensor]:
        """Read further tokens of every sequence in chunks.

        Args:
            token_ids: one list per sequence; an empty one leaves its sequence as it is.
            logits: of the last token of each, of all tokens, or none.
            protect: accepted for the protocol; cells of this kind are tokens and never compressed.

        Returns:
            Per sequence float32 logits of shape (wanted tokens, vocabulary).

        Raises:
            UsageError: a token id is outside the vocabulary.
            LimitError: a sequence outgrows the attention window of the model.
        """
        for index, ids in enumerate(token_ids):
            self._check(index, ids)
        longest = max((len(ids) for ids in token_ids), default=0)
        if longest > 1:
            self._batch.reserve(max(own + len(ids) for own, ids in zip(self._batch.own, token_ids, strict=True)))
        kept: list[list[Tensor]] = [[] for _ in token_ids]
        for start in range(0, longest, _CHUNK_TOKENS):
            chunks = [ids[start : start + _CHUNK_TOKENS] for ids in token_ids]
            for index, states in self._forward(chunks):
                if logits == "all" or (logits == "last" and start + len(states) == len(token_ids[index])):
                    kept[index].append(self._model.logits(states if logits == "all" else states[-1:]))
        empty = torch.empty(0, self._model.vocab_size, device=self._model.device)
        return [torch.cat(parts) if parts else empty for parts in kept]

    def freeze(self) -> list[KVMemory]:
        """Turn what each sequence sees now into memories; the session is at its end."""
        return [
            KVMemory(
                kind="full",
                model=self._model.identity,
                keys=keys,
                values=values,
                rope=self._model.rope,
                source_tokens=(memory.source_tokens if memory else 0) + len(read),
                token_ids=_all_token_ids(memory, read),
            )
            for (keys, values), memory, read in zip(self._batch.drain(), self._memories, self._read, strict=True)
        ]

    def _forward(self, chunks: Sequence[Sequence[int]]) -> list[tuple[int, Tensor]]:
        device = self._model.device
        counts = [len(chunk) for chunk in chunks]
        starts = [self._batch.cells(index) for index in range(len(self))]
        ids = torch.tensor([token for chunk in chunks for token in chunk], dtype=torch.long, device=device)
        positions = torch.cat([torch.arange(at, at + count) for at, count in zip(starts, counts, strict=True)])
        self._batch.begin(counts)
        states = self._model.forward(ids, positions.to(device), self._batch)
        self._batch.finish()
        for read, chunk in zip(self._read, chunks, strict=True):
            read.extend(chunk)
        return [(index, part) for index, part in enumerate(torch.split(states, counts)) if counts[index]]

    def _check(self, index: int, ids: Sequence[int]) -> None:
        if len(ids) and (min(ids) < 0 or max(ids) >= self._model.vocab_size):
            raise UsageError(f"token ids must be from 0 to {self._model.vocab_size - 1}, got {min(ids)} to {max(ids)}")
        total = self._batch.cells(index) + len(ids)
        if self._model.window is not None and total > self._model.window:
            raise LimitError(
                f"{total} tokens are more than the {self._model.window} that this model's sliding-window attention "
                "sees: split the text into several memories"
            )


def _all_token_ids(memory: KVMemory | None, read: list[int]) -> tuple[int, ...]:
    """The tokens of all cells, where those of the earlier memory are known."""
    if memory is None:
        return tuple(read)
    return (*memory.token_ids, *read) if len(memory.token_ids) == memory.cells else ()


def _attention_window(config: Any) -> int | None:
    """The sliding window, where the configuration uses one in any layer."""
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        return int(config.sliding_window)
    window = getattr(config, "sliding_window", None)
    if window is None or getattr(config, "use_sliding_window", True) is False:
        return None
    return int(window)


def _register_attention() -> None:
    from transformers import AttentionInterface

    with _REGISTERING:
        AttentionInterface.register(_ATTENTION, _attend)


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    softcap: float | None = None,
    kv_batch: KVBatch | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of a layer over the batch's cells; rotated states of shape (1, heads, rows, head_dim)."""
    if kv_batch is None:
        raise BackendError("a model loaded for memories was called without its cache; use its session")
    if softcap is not None or s_aux is not None or key.shape != value.shape:
        raise ConfigurationError(
            f"{type(module).__name__} caps its scores, has learned sinks or latent values: not supported for memories"
        )
    width = query.shape[-1]
    if scaling is not None and scaling != width**-0.5:
        query = query * (scaling * width**0.5)
    kv_batch.store(module.layer_idx, key[0], value[0])
    output = kv_batch.attend(module.layer_idx, query[0])
    return output.transpose(0, 1)[None], None


__all__ = ["FullContextModel", "FullSession"]
