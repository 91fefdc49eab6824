"""The arithmetic of windows and beacons: which rows a reading consists of and which cells stay.

Pure integers; knows nothing of tensors. A plan is made before anything is computed, so the room that a reading needs is
known from the start.
"""

from __future__ import annotations

from dataclasses import dataclass

from lightrag.memory.beacon.config import BeaconConfig
from lightrag.memory.beacon.ratio import RatioPolicy
from lightrag.memory.kv_memory import BeaconState

RAW, BEACON, KEPT = 0, 1, 2
"""Flags of cells: dropped when the window closes, summarising, and kept for good (sinks, protected tokens)."""


@dataclass(frozen=True, slots=True)
class Step:
    """One forward pass of one sequence; it never crosses the end of a window."""

    tokens: int
    """Real tokens read."""
    flags: bytes
    """One per new row, in order."""
    window: bytes
    """Flags of the open window, the new rows included."""
    ratio: int
    """Of this window; -1 where it has none yet."""
    keep: tuple[int, ...] | None
    """Cells of ``window`` that stay when the window closes with this step; ``None`` while it stays open."""

    @property
    def rows(self) -> int:
        """New rows: tokens and beacons."""
        return len(self.flags)

    @property
    def beacons(self) -> int:
        """New rows that are beacons."""
        return self.flags.count(BEACON)


class Cursor:
    """Where one sequence stands; advances as steps are planned.

    Args:
        config: window, placement and sinks.
        state: where reading stopped.
        closed: cells before the open window.
        received: real tokens read so far.
    """

    def __init__(self, config: BeaconConfig, state: BeaconState, *, closed: int, received: int) -> None:
        self._config = config
        self.flags = state.flags
        self.tokens = state.tokens
        self.remainder = state.remainder
        self.ratio = state.ratio
        self.windows = state.windows
        self.sticky = state.sticky_ratio
        self.closed = closed
        self.received = received
        self._had_raw_window = False

    @property
    def state(self) -> BeaconState:
        """What a memory must remember to go on from here."""
        return BeaconState(self.flags, self.tokens, self.remainder, self.ratio, self.windows, self.sticky)

    def plan(
        self,
        tokens: int,
        policy: RatioPolicy,
        *,
        protect: bool = False,
        skip_first: int = 0,
        following: int = 0,
        training: bool = False,
    ) -> list[Step]:
        """Plan the reading of ``tokens`` further tokens and advance past them.

        Args:
            tokens: how many there are.
            policy: chooses ratios.
            protect: keep these tokens uncompressed for good.
            skip_first: keep so many first tokens of this call uncompressed, as one step.
            following: further tokens of the same call, planned next.
            training: the last window gets no beacons and stays open, because nothing follows that could use them.
        """
        total = self.received + tokens + following
        steps = []
        at = 0
        if skip_first:
            steps.append(self._protected(skip_first))
            at = skip_first
        while at < tokens:
            left = tokens - at
            if protect:
                take = min(self._config.window, left)
                steps.append(self._protected(take))
            else:
                take = min(self._config.window - self.tokens, left)
                last = training and take == left
                steps.append(self._unfinished(take) if last else self._windowed(take, total, policy, training))
            at += take
        return steps

    def _windowed(self, take: int, total: int, policy: RatioPolicy, training: bool) -> Step:
        full = self.tokens + take == self._config.window
        interleave = self._config.placement == "interleave"
        if (interleave and self.tokens == 0) or (full and not interleave):
            self._choose(total, policy, training)
        if interleave:
            flags = self._interleaved(take)
        else:
            appended = self._config.window // self.ratio if full and self.ratio > 0 else 0
            flags = bytes(take) + bytes([BEACON]) * appended
        return self._advance(take, flags, full)

    def _choose(self, total: int, policy: RatioPolicy, training: bool) -> None:
        window_start = self.received - self.tokens
        follows_another = window_start + 2 * self._config.window <= total
        choice = policy.choose(
            windows=self.windows,
            sticky=self.sticky,
            received=total,
            allow_raw=not training or (follows_another and not self._had_raw_window),
        )
        self.ratio, self.sticky = choice
        self.windows += 1
        self._had_raw_window |= self.ratio == 0
        if self.ratio > 0:
            self.remainder %= self.ratio

    def _interleaved(self, take: int) -> bytes:
        if self.ratio == 0:
            return bytes(take)
        period = self.ratio + 1
        beacons = (take + self.remainder) // self.ratio
        first = self.ratio - self.remainder
        flags = bytearray(take + beacons)
        if beacons:
            flags[first::period] = bytes([BEACON]) * len(range(first, len(flags), period))
        self.remainder = (take + self.remainder) % self.ratio
        return bytes(flags)

    def _unfinished(self, take: int) -> Step:
        self.ratio = -1
        return self._advance(take, bytes(take), full=False)

    def _protected(self, take: int) -> Step:
        flags = bytes([KEPT]) * take
        self.received += take
        window = self.flags + flags
        if self.tokens:
            self.flags = window
            return Step(take, flags, window, self.ratio, None)
        self.flags = b""
        self.closed += len(window)
        return Step(take, flags, window, self.ratio, tuple(range(len(window))))

    def _advance(self, take: int, flags: bytes, full: bool) -> Step:
        window = self.flags + flags
        self.received += take
        if not full:
            self.flags = window
            self.tokens += take
            return Step(take, flags, window, self.ratio, None)
        keep = self._kept(window)
        self.flags, self.tokens = b"", 0
        self.closed += len(keep)
        return Step(take, flags, window, self.ratio, keep)

    def _kept(self, window: bytes) -> tuple[int, ...]:
        if self.ratio == 0:
            stays = list(range(len(window)))
        else:
            stays = [index for index, flag in enumerate(window) if flag != RAW]
        # As published, sinks are cells of their own in front, also where one of them stays anyway.
        sinks = range(min(self._config.sink_size, len(window))) if self.closed == 0 else ()
        return (*sinks, *stays)


__all__ = ["BEACON", "KEPT", "RAW", "Cursor", "Step"]
