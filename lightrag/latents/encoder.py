"""The compressive encoder: the first layers of a decoder, whose states stand for the tokens they have read.

It turns token ids into states. Which states are kept, and what for, is decided elsewhere.
Source: FlexRAG (arXiv 2409.15699) section 3.1; the down-sampling ratio never enters the computation.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lightrag.errors import UsageError
from lightrag.latents.checkpoint import find_part
from lightrag.latents.inputs import EncoderInput

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from lightrag.latents.decoder import PrefixCache

DEFAULT_LAYERS = 8
"""Layers of the published encoders."""

Precision = Literal["auto", "float32", "bfloat16", "float16"]


class LatentEncoder:
    """Encodes packed batches of inputs. Not safe to share between threads.

    Example:
        >>> encoder = LatentEncoder.load("checkpoints/FlexRAG")  # doctest: +SKIP
        >>> states = encoder.encode(Framing(bos=1, eos=2).cut(ids))  # doctest: +SKIP

    Args:
        model: a decoder of ``transformers`` without its head (Llama, Mistral, Qwen2, Qwen3).
        max_batch_tokens: tokens in one pass; only bounds memory, since nothing is padded.

    Raises:
        UsageError: the decoder is of another type.
    """

    def __init__(self, model: Any, *, max_batch_tokens: int = 8192) -> None:
        from lightrag.latents.decoder import check_supported

        check_supported(model)
        self.model = model
        self.max_batch_tokens = max_batch_tokens
        self._prefixes: dict[tuple[int, ...], PrefixCache | None] = {}
        self._fingerprint = ""

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        layers: int | None = None,
        base: str | Path | None = None,
        dtype: Precision = "auto",
        device: str = "cpu",
        max_batch_tokens: int = 8192,
    ) -> LatentEncoder:
        """Load the encoder of a checkpoint, or make one of the first layers of a language model.

        Args:
            path: checkpoint folder in any published layout, or a causal LM.
            layers: layers to keep; ``None``: all of a stored encoder, at most eight.
            base: folder that describes the architecture where the checkpoint does not.
            dtype: ``auto`` keeps the stored precision.
            device: as torch names it.
            max_batch_tokens: see the class.

        Raises:
            ArtifactError: the checkpoint is damaged or has no encoder.
            UsageError: it has fewer layers than asked for.
        """
        import torch

        from lightrag.models.packing import pack_linear_layers

        part = find_part(path, "encoder", base=base)
        precision = None if dtype == "auto" else getattr(torch, dtype)
        model = part.build(layers or min(part.layers, DEFAULT_LAYERS), precision, device)
        pack_linear_layers(model)
        return cls(model, max_batch_tokens=max_batch_tokens)

    @property
    def hidden_size(self) -> int:
        """Width of a state, equal to the language model's."""
        return int(self.model.config.hidden_size)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the states."""
        return self.model.embed_tokens.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.model.embed_tokens.weight.device

    @property
    def fingerprint(self) -> str:
        """Changes whenever equal ids may get other states: architecture and every weight. Computed at first use."""
        if not self._fingerprint:
            self._fingerprint = _fingerprint(self.model)
        return self._fingerprint

    def encode(self, inputs: Sequence[EncoderInput], keep: Sequence[Sequence[int]] | None = None) -> list[Tensor]:
        """Encode inputs in few packed passes.

        Args:
            inputs: what to encode; BOS and instruction, which they share, are computed once.
            keep: per input the positions in ``EncoderInput.ids``, not descending, whose states are wanted; the last
                layer is then computed for them alone. ``None``: every context token's.

        Returns:
            Per input the states, shape (kept, hidden), in the order of ``inputs``.

        Raises:
            UsageError: a position lies outside its input, or positions descend.
        """
        _check_keep(inputs, keep)
        results: list[Tensor] = []
        for begin, end in _batches(inputs, self.max_batch_tokens):
            chosen = keep[begin:end] if keep is not None else None
            results.extend(self._encode_batch(inputs[begin:end], chosen))
        return results

    def stream(self, inputs: Iterable[EncoderInput]) -> Iterator[Tensor]:
        """Encode inputs one by one as they arrive, in constant memory; yields every context token's states."""
        for item in inputs:
            yield self._encode_batch([item], None)[0]

    def _encode_batch(self, inputs: Sequence[EncoderInput], keep: Sequence[Sequence[int]] | None) -> list[Tensor]:
        import torch

        from lightrag.latents.decoder import run_packed

        shared = self._shared_prefix(inputs, keep)
        prefix = self._prefix(shared)
        skip = len(shared)
        lengths = [len(item.ids) - skip for item in inputs]
        tokens = [token for item in inputs for token in item.ids[skip:]]
        self._check_ids((*shared, *tokens))
        ids = torch.tensor(tokens, device=self.device)
        if keep is None:
            keep = [range(item.head, len(item.ids) - item.tail) for item in inputs]
        starts = torch.tensor([0, *lengths]).cumsum(0).tolist()
        places = [start - skip + position for start, row in zip(starts, keep, strict=False) for position in row]
        if not places:
            return [torch.empty(0, self.hidden_size, dtype=self.dtype, device=self.device) for _ in inputs]
        everything = places == list(range(len(ids)))
        rows = None if everything else torch.tensor(places, dtype=torch.long, device=self.device)
        with torch.inference_mode():
            states = run_packed(self.model, ids, lengths, prefix=prefix, rows=rows)
        return list(torch.split(states, [len(row) for row in keep]))

    def _check_ids(self, ids: Sequence[int]) -> None:
        size = self.model.embed_tokens.num_embeddings
        if min(ids) < 0 or max(ids) >= size:
            raise UsageError(
                f"token id {max(ids)} is not among the encoder's {size}: the tokenizer belongs to another model"
            )

    def _shared_prefix(self, inputs: Sequence[EncoderInput], keep: Sequence[Sequence[int]] | None) -> tuple[int, ...]:
        """The leading tokens that need not be computed again: shared by all inputs and not themselves kept."""
        head = min(item.head for item in inputs)
        prefix = inputs[0].ids[:head]
        wanted = min((row[0] for row in keep if len(row)), default=head) if keep is not None else head
        if wanted < head or any(item.ids[:head] != prefix for item in inputs):
            return ()
        # A lone BOS costs less inside the sequence than as a cached prefix, which needs a longer attention.
        return prefix if head > 1 else ()

    def _prefix(self, ids: tuple[int, ...]) -> PrefixCache | None:
        from lightrag.latents.decoder import make_prefix

        if ids not in self._prefixes:
            self._prefixes[ids] = make_prefix(self.model, ids)
        return self._prefixes[ids]


def _check_keep(inputs: Sequence[EncoderInput], keep: Sequence[Sequence[int]] | None) -> None:
    if keep is None:
        return
    if len(keep) != len(inputs):
        raise UsageError(f"{len(keep)} lists of kept positions for {len(inputs)} inputs")
    for item, row in zip(inputs, keep, strict=True):
        if any(later < earlier for earlier, later in pairwise(row)):
            raise UsageError("kept positions must not descend")
        if len(row) and (row[0] < 0 or row[-1] >= len(item.ids)):
            raise UsageError(f"kept positions must lie in an input of {len(item.ids)} tokens, not {row[-1]}")


def _batches(inputs: Sequence[EncoderInput], limit: int) -> Iterator[tuple[int, int]]:
    """Ranges of neighbouring inputs of at most ``limit`` tokens together, or a single longer one."""
    begin = tokens = 0
    for index, item in enumerate(inputs):
        if index > begin and tokens + len(item.ids) > limit:
            yield begin, index
            begin, tokens = index, 0
        tokens += len(item.ids)
    if begin < len(inputs):
        yield begin, len(inputs)


def _fingerprint(model: Any) -> str:
    import blake3
    import torch

    config = {name: value for name, value in model.config.to_dict().items() if name not in _VOLATILE}
    digest = blake3.blake3(max_threads=blake3.blake3.AUTO).update(
        json.dumps(config, sort_keys=True, default=str).encode()
    )
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


# Says nothing about the states: bookkeeping of the library that wrote or read the file.
_VOLATILE = frozenset({"transformers_version", "_name_or_path", "architectures", "dtype", "torch_dtype", "use_cache"})

__all__ = ["DEFAULT_LAYERS", "LatentEncoder", "Precision"]
