"""Encodes passages: each by itself, so that its states can be stored and reused in any order, or all as one text.

It ties a tokenizer and an encoder together and knows nothing of budgets, questions or storage.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightrag.errors import UsageError
from lightrag.latents.encoder import LatentEncoder, Precision
from lightrag.latents.inputs import EncoderInput, Framing
from lightrag.models.tokenization import HuggingFaceTokenizer
from lightrag.types import Span

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class TokenizedPassage:
    """A passage as the encoder reads it."""

    ids: tuple[int, ...]
    spans: tuple[Span, ...]
    """Character range of each token."""


class PassageEncoder:
    """Turns passages into one state per token. Not safe to share between threads.

    Args:
        encoder: the compressive encoder.
        tokenizer: of the language model that reads the states.
        bos: id that every input begins with, where the tokenizer has one.
        instruction: task instruction that the encoder was trained with (TacZip); its states are never kept.
        max_length: longest encoder input; longer passages are cut, and their states joined.
    """

    def __init__(
        self,
        encoder: LatentEncoder,
        tokenizer: HuggingFaceTokenizer,
        *,
        bos: int | None = None,
        instruction: str = "",
        max_length: int = 4096,
    ) -> None:
        self.encoder = encoder
        self.tokenizer = tokenizer
        # States come before the end mark in a causal encoder, so corrected inputs do without EOS.
        self.framing = Framing(max_length, bos, None, tuple(tokenizer.ids_of([instruction])[0]) if instruction else ())

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        tokenizer: str | Path | None = None,
        instruction: str = "",
        max_length: int = 4096,
        layers: int | None = None,
        base: str | Path | None = None,
        dtype: Precision = "auto",
        device: str = "cpu",
    ) -> PassageEncoder:
        """Load a published checkpoint.

        Args:
            path: see :meth:`LatentEncoder.load`, as the four last arguments.
            tokenizer: folder of the language model; ``None``: the checkpoint's own folder.
            instruction: see the class.
            max_length: see the class.
            layers: layers to keep.
            base: folder that describes the architecture.
            dtype: precision of the weights.
            device: as torch names it.

        Raises:
            ArtifactError: the checkpoint is damaged or has no encoder.
            BackendError: there is no tokenizer.
        """
        encoder = LatentEncoder.load(path, layers=layers, base=base, dtype=dtype, device=device)
        folder = Path(tokenizer or path)
        fast = HuggingFaceTokenizer.open(folder)
        return cls(encoder, fast, bos=find_bos(folder, fast), instruction=instruction, max_length=max_length)

    @property
    def hidden_size(self) -> int:
        """Width of a state."""
        return self.encoder.hidden_size

    @cached_property
    def fingerprint(self) -> str:
        """Changes whenever an equal passage may get other states: weights, tokenizer, instruction, lengths."""
        from blake3 import blake3

        recipe: dict[str, Any] = {
            "encoder": self.encoder.fingerprint,
            "tokenizer": self.tokenizer.fingerprint,
            "prefix": self.framing.prefix,
            "max_length": self.framing.max_length,
        }
        return blake3(json.dumps(recipe, sort_keys=True).encode()).hexdigest(16)

    def tokenize(self, texts: Sequence[str]) -> list[TokenizedPassage]:
        """Tokenise passages once, with the places of their tokens."""
        encodings = self.tokenizer.fast.encode_batch(list(texts), add_special_tokens=False)
        return [TokenizedPassage(tuple(item.ids), tuple(Span(*span) for span in item.offsets)) for item in encodings]

    def encode(
        self,
        passages: Sequence[Sequence[int]],
        keep: Sequence[Sequence[int]] | None = None,
        *,
        joint: bool = False,
    ) -> list[Tensor]:
        """Encode passages in few packed passes.

        Args:
            passages: token ids.
            keep: ascending positions per passage whose states are wanted; ``None``: all.
            joint: read the passages as one text, each in the context of those before it, as the published systems
                do. Such states belong to this sequence of passages only.

        Returns:
            States per passage, shape (kept, hidden).
        """
        import torch

        wanted = [range(len(ids)) for ids in passages] if keep is None else keep
        if len(wanted) != len(passages):
            raise UsageError(f"{len(wanted)} lists of positions for {len(passages)} passages")
        if joint:
            joined = [token for ids in passages for token in ids]
            starts = _starts(passages)
            positions = [start + at for start, row in zip(starts, wanted, strict=True) for at in row]
            states = self._encode_cut([self.framing.cut(joined)], [positions])[0]
            return list(torch.split(states, [len(row) for row in wanted]))
        return self._encode_cut([self.framing.cut(ids) for ids in passages], wanted)

    def stream(self, ids: Iterable[int]) -> Iterator[Tensor]:
        """Encode one long text while its tokens arrive; yields the states of each full input, then of the rest."""
        yield from self.encoder.stream(self.framing.cut_stream(ids))

    def _encode_cut(self, cuts: Sequence[Sequence[EncoderInput]], wanted: Sequence[Sequence[int]]) -> list[Tensor]:
        import torch

        inputs = [item for row in cuts for item in row]
        rows: list[list[int]] = []
        for row, positions in zip(cuts, wanted, strict=True):
            rows.extend(_by_input(row, positions, self.framing.step))
        states = iter(self.encoder.encode(inputs, rows))
        empty = torch.empty(0, self.hidden_size, dtype=self.encoder.dtype, device=self.encoder.device)
        return [torch.cat([empty, *(next(states) for _ in row)]) for row in cuts]


def find_bos(folder: Path, tokenizer: HuggingFaceTokenizer) -> int | None:
    """Id of the beginning-of-text token that a tokenizer's configuration names, if it names one."""
    file = folder / "tokenizer_config.json"
    if not file.is_file():
        return None
    token = json.loads(file.read_text(encoding="utf-8")).get("bos_token")
    token = token.get("content") if isinstance(token, dict) else token
    return tokenizer.fast.token_to_id(token) if token else None


def _by_input(inputs: Sequence[EncoderInput], positions: Sequence[int], step: int) -> list[list[int]]:
    rows: list[list[int]] = [[] for _ in inputs]
    for position in positions:
        number, offset = divmod(position, step)
        if not 0 <= number < len(inputs) or offset >= inputs[number].context_tokens:
            raise UsageError(f"position {position} lies outside a passage")
        rows[number].append(inputs[number].head + offset)
    return rows


def _starts(passages: Sequence[Sequence[int]]) -> list[int]:
    starts, at = [], 0
    for ids in passages:
        starts.append(at)
        at += len(ids)
    return starts


__all__ = ["PassageEncoder", "TokenizedPassage", "find_bos"]
