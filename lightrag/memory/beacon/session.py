"""Reading: runs planned steps of a batch of sequences through the decoder and closes their windows.

Private to the package. A session belongs to one caller; the memories it starts from are shared and never changed. Each
sequence has its own cursor, so sequences of any lengths may be read together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from lightrag.errors import UsageError
from lightrag.memory.beacon.config import BeaconConfig
from lightrag.memory.beacon.decoder import BeaconDecoder
from lightrag.memory.beacon.plan import Cursor, Step
from lightrag.memory.beacon.ratio import RatioPolicy
from lightrag.memory.beacon.rows import pack_rows, step_expansion_mask, window_positions
from lightrag.memory.kv_batch import KVBatch
from lightrag.memory.kv_memory import BeaconState, KVMemory, ModelIdentity, rope_state
from lightrag.memory.rope import RopeTable, move_keys

WantedLogits = Literal["none", "last", "step", "all"]
"""Of each sequence: none, the last token's, those of the last step's tokens, or every token's."""


@dataclass(slots=True)
class _Sequence:
    """Where one sequence stands while it is read."""

    cursor: Cursor
    closed: int
    """Cells before the open window, as computed so far (the cursor is ahead while a plan runs)."""
    positions: Tensor
    """Of the cells of the open window."""
    table: RopeTable
    rope_length: int
    steps: list[Step] = field(default_factory=list)
    token_ids: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    logits: list[Tensor] = field(default_factory=list)


class BeaconSession:
    """Reads further tokens into a batch of sequences.

    Args:
        decoder: the model.
        config: of the model.
        memories: what each sequence starts from; ``None`` for nothing.
        identity: of the model, for the memories that come out.
    """

    def __init__(
        self,
        decoder: BeaconDecoder,
        config: BeaconConfig,
        memories: Sequence[KVMemory | None],
        identity: ModelIdentity,
    ) -> None:
        weight = decoder.lm_head.weight
        self._decoder, self._config, self._identity = decoder, config, identity
        self._device, self._dtype = weight.device, weight.dtype
        self._policy = RatioPolicy(config)
        self._batch = KVBatch(
            config.cache_shape,
            [(memory.keys, memory.values) if memory else None for memory in memories],
            dtype=self._dtype,
            device=self._device,
        )
        base = config.rope.table(config.rope.native_length, self._device)
        self._sequences = [self._start(memory, base) for memory in memories]

    def __len__(self) -> int:
        return len(self._sequences)

    @torch.inference_mode()
    def read(
        self,
        token_ids: Sequence[Sequence[int]],
        *,
        logits: WantedLogits = "last",
        protect: bool = False,
        skip_first: int = 0,
        skip_last: int | None = None,
    ) -> list[Tensor]:
        """Read further tokens of every sequence.

        Args:
            token_ids: one list per sequence; an empty one leaves its sequence as it is.
            logits: which logits to return.
            protect: keep these tokens uncompressed for good: for questions and answers.
            skip_first: keep so many first tokens uncompressed.
            skip_last: from this token of the call on, keep tokens uncompressed.

        Returns:
            Per sequence float32 logits of shape (wanted tokens, vocabulary).

        Raises:
            UsageError: a token id is outside the vocabulary, or ``skip_first`` does not fit.
        """
        for sequence, ids in zip(self._sequences, token_ids, strict=True):
            self._prepare(sequence, ids, protect, skip_first, skip_last)
        self._reserve()
        rounds = max((len(sequence.steps) for sequence in self._sequences), default=0)
        for index in range(rounds):
            self._run(index, logits)
        return [self._collect(sequence) for sequence in self._sequences]

    def freeze(self) -> list[KVMemory]:
        """Turn what each sequence sees now into memories; the session is at its end."""
        return [
            KVMemory(
                kind="beacon",
                model=self._identity,
                keys=keys,
                values=values,
                rope=rope_state(sequence.table, sequence.rope_length),
                source_tokens=sequence.cursor.received,
                beacon=sequence.cursor.state,
            )
            for sequence, (keys, values) in zip(self._sequences, self._batch.drain(), strict=True)
        ]

    def _start(self, memory: KVMemory | None, base: RopeTable) -> _Sequence:
        state = memory.beacon if memory and memory.beacon else BeaconState()
        cells = memory.cells if memory else 0
        closed = cells - len(state.flags)
        cursor = Cursor(self._config, state, closed=closed, received=memory.source_tokens if memory else 0)
        length = memory.rope.length if memory else 0
        table = self._config.rope.table(length, self._device) if length > self._config.rope.native_length else base
        resumed = Step(0, b"", state.flags, state.ratio, None)
        return _Sequence(cursor, closed, window_positions(self._config, resumed, closed), table, length)

    def _prepare(
        self, sequence: _Sequence, ids: Sequence[int], protect: bool, skip_first: int, skip_last: int | None
    ) -> None:
        tokens = torch.as_tensor(ids, dtype=torch.long)
        if len(tokens) and (int(tokens.min()) < 0 or int(tokens.max()) >= self._config.vocab_size):
            raise UsageError(
                f"token ids must be from 0 to {self._config.vocab_size - 1}, "
                f"got {int(tokens.min())} to {int(tokens.max())}"
            )
        if skip_first and not (0 < skip_first <= len(tokens) and sequence.cursor.received == 0):
            raise UsageError(
                f"skip_first {skip_first} needs a new sequence of at least so many tokens; this one has "
                f"{sequence.cursor.received} tokens already and gets {len(tokens)}"
            )
        end = len(tokens) if skip_last is None else max(skip_first, min(skip_last, len(tokens)))
        plan = sequence.cursor.plan
        rest = len(tokens) - end
        steps = plan(end, self._policy, protect=protect, skip_first=skip_first, following=rest) if end else []
        if rest:
            steps += plan(rest, self._policy, protect=True)
        sequence.steps, sequence.token_ids, sequence.logits = steps, tokens.to(self._device), []

    def _reserve(self) -> None:
        """Make room for the longest sequence once, instead of growing step by step."""
        most = max((self._largest(index) for index in range(len(self))), default=0)
        if most > self._batch.capacity:
            several = any(len(sequence.steps) > 1 for sequence in self._sequences)
            self._batch.reserve(most + (self._config.window if several else 0))

    def _largest(self, index: int) -> int:
        """Most own cells that a sequence has at any time of its plan, kept ones that move there included."""
        own, visible = self._batch.own[index], self._batch.visible(index)
        most, closed = own, self._sequences[index].closed
        for step in self._sequences[index].steps:
            own += step.rows
            most = max(most, own)
            if step.keep is not None:
                frozen_open = max(visible - closed, 0)
                own += frozen_open - len(step.window) + len(step.keep)
                visible -= frozen_open
                most, closed = max(most, own), closed + len(step.keep)
        return most

    def _run(self, round_index: int, logits: WantedLogits) -> None:
        active = [i for i, sequence in enumerate(self._sequences) if round_index < len(sequence.steps)]
        steps = {i: self._sequences[i].steps[round_index] for i in active}
        for i in active:
            self._grow_rope(i, steps[i])
        places = {i: window_positions(self._config, steps[i], self._sequences[i].closed) for i in active}
        new_places = [places[i][len(places[i]) - steps[i].rows :].to(self._device) for i in active]
        rows = pack_rows(
            torch.cat([self._take(i, round_index) for i in active]),
            [steps[i] for i in active],
            new_places,
            [self._sequences[i].table for i in active],
            self._config.rope.query_temperature(torch.cat(new_places)),
            self._dtype,
        )
        masks = [self._mask(steps[i], self._sequences[i].closed) if i in steps else None for i in range(len(self))]
        self._batch.begin([steps[i].rows if i in steps else 0 for i in range(len(self))], masks)
        wanted = {i: self._wants(i, round_index, logits) for i in active}
        states = self._decoder(rows, self._batch, cells_only=not any(wanted.values()))
        self._batch.finish()
        self._keep_logits(states, active, steps, wanted)
        for i in active:
            self._sequences[i].positions = places[i]
            if steps[i].keep is not None:
                self._close(i, steps[i])

    def _take(self, index: int, round_index: int) -> Tensor:
        sequence = self._sequences[index]
        start = sum(step.tokens for step in sequence.steps[:round_index])
        return sequence.token_ids[start : start + sequence.steps[round_index].tokens]

    def _mask(self, step: Step, closed: int) -> Tensor | None:
        mask = step_expansion_mask(self._config, step, closed)
        return None if mask is None else mask.to(self._device)

    def _wants(self, index: int, round_index: int, logits: WantedLogits) -> int:
        """How many of the step's last real rows need logits."""
        steps = self._sequences[index].steps
        if logits == "all":
            return steps[round_index].tokens
        if logits == "none" or round_index < len(steps) - 1:
            return 0
        return 1 if logits == "last" else steps[round_index].tokens

    def _keep_logits(self, states: Tensor, active: list[int], steps: dict[int, Step], wanted: dict[int, int]) -> None:
        if not any(wanted.values()):
            return
        ends, at = [], 0
        for i in active:
            at += steps[i].tokens
            ends.append(at)
        picked = torch.cat([states[end - wanted[i] : end] for i, end in zip(active, ends, strict=True)])
        scores = self._decoder.logits(picked)
        for i, part in zip(active, torch.split(scores, [wanted[i] for i in active]), strict=True):
            self._sequences[i].logits.append(part)

    def _collect(self, sequence: _Sequence) -> Tensor:
        parts, sequence.logits, sequence.steps = sequence.logits, [], []
        if not parts:
            return torch.empty(0, self._config.vocab_size, device=self._device)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _close(self, index: int, step: Step) -> None:
        """Keep the cells that stay, moved together, and forget the others of the window."""
        assert step.keep is not None  # noqa: S101  # checked by the caller
        sequence, batch = self._sequences[index], self._batch
        closed, keep = sequence.closed, step.keep
        new = torch.arange(closed, closed + len(keep), device=self._device)
        sequence.closed = closed + len(keep)
        old = sequence.positions[list(keep)].to(self._device)
        sequence.positions = torch.empty(0, dtype=torch.long)
        if len(keep) == len(step.window) and torch.equal(old, new):
            return
        picks = torch.tensor(keep, dtype=torch.long, device=self._device)
        frozen_open = max(batch.visible(index) - closed, 0)
        start = batch.own[index] + frozen_open - len(step.window)
        for layer in range(self._config.layers):
            keys, values = batch.own_cells(layer, index)
            keys, values = keys[:, start:], values[:, start:]
            if frozen_open:
                frozen = batch.frozen_cells(layer, index)
                assert frozen is not None  # noqa: S101  # it has open cells
                keys = torch.cat((frozen[0][:, closed:], keys), 1)
                values = torch.cat((frozen[1][:, closed:], values), 1)
            moved = move_keys(keys[:, picks], old, new, sequence.table)
            batch.write(layer, index, start, moved, values[:, picks])
        batch.truncate(index, start + len(keep), batch.visible(index) - frozen_open)

    def _grow_rope(self, index: int, step: Step) -> None:
        """Re-rotate everything where the sequence outgrows its table (scalings that depend on the length)."""
        sequence, rope = self._sequences[index], self._config.rope
        length = self._batch.cells(index) + step.rows
        previous, sequence.rope_length = sequence.rope_length, max(sequence.rope_length, length)
        if not rope.grows or length <= max(previous, rope.native_length):
            return
        old, sequence.table = sequence.table, rope.table(length, self._device)
        closed = torch.arange(sequence.closed)
        places = torch.cat((closed, sequence.positions)).to(self._device)
        visible = self._batch.visible(index)
        frozen = [self._batch.frozen_cells(layer, index) for layer in range(self._config.layers)]
        pairs = [pair for pair in frozen if pair is not None]
        if pairs:
            front = places[:visible]
            moved = tuple(move_keys(keys, front, front, old, sequence.table) for keys, _ in pairs)
            self._batch.replace_frozen(index, moved, tuple(values for _, values in pairs))
        back = places[visible:]
        for layer in range(self._config.layers):
            keys, values = self._batch.own_cells(layer, index)
            self._batch.write(layer, index, 0, move_keys(keys, back, back, old, sequence.table), values)


__all__ = ["BeaconSession", "WantedLogits"]
