"""How fast memories are loaded: ``python -m tests.benchmarks.memory_loading [--gib 0.25 1] [--folder DIR]``.

Against unpickling the same tensors, and against what the disk reads in blocks of the same size. Every measurement is a
process that has imported everything and loaded nothing, and sums all bytes of all tensors.
*Cold*: the files are not in the page cache. *Known*: another process of this machine verified the files before, so that
they are mapped and not hashed again; the first process hashes them. Fastest of the rounds: other load only slows down.
"""

from __future__ import annotations

import argparse
import json
import mmap
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from lightrag.memory.artifact.loading import load_memory
from lightrag.memory.artifact.saving import save_memory
from lightrag.memory.kv_memory import BeaconState, KVMemory, ModelIdentity, RopeState
from lightrag.storage.objects import PART_BYTES

LAYERS, KV_HEADS, HEAD_DIM = 28, 4, 128
"""Of the published Qwen2-7B; bfloat16 as there, 56 KiB per cell."""
_SETTLE_SECONDS = 2.5
"""Files are remembered as verified once nobody wrote to them for two seconds."""


def made_memory(size: int) -> KVMemory:
    """A memory of about ``size`` bytes of random cells."""
    cells = max(1, size // (LAYERS * 2 * KV_HEADS * HEAD_DIM * 2))

    def draw() -> tuple[Tensor, ...]:
        whole = torch.randint(0, 2**15, (LAYERS, KV_HEADS, cells, HEAD_DIM), dtype=torch.int16)
        return tuple(whole.view(torch.bfloat16))

    identity = ModelIdentity("qwen2", "random", "random")
    return KVMemory(
        "beacon", identity, draw(), draw(), RopeState((1.0,)), source_tokens=4 * cells, beacon=BeaconState()
    )


def touched(tensors: Iterable[Tensor]) -> int:
    """Read every byte."""
    return sum(int(tensor.contiguous().view(-1).view(torch.int64).sum()) for tensor in tensors)


def ours(folder: Path) -> int:
    """Load and touch one of ours."""
    memory = load_memory(folder)
    return touched((*memory.keys, *memory.values))


def pickled(path: Path) -> int:
    """Load and touch the same tensors, pickled."""
    return touched(tensor for side in torch.load(path, weights_only=False) for tensor in side)


def disk(folder: Path, *, direct: bool) -> int:
    """Read our files in blocks of a part each and drop them: as ``dd``, or past the page cache, four at once."""
    readers = 4 if direct else 1
    buffers = [mmap.mmap(-1, PART_BYTES) for _ in range(readers)]  # aligned, as direct reading needs
    read = 0
    for path in folder.iterdir():
        handle = os.open(path, os.O_RDONLY | (os.O_DIRECT if direct else 0))

        def block(number: int, handle: int = handle) -> int:
            return os.preadv(handle, [buffers[number % readers]], number * PART_BYTES)

        with ThreadPoolExecutor(readers) as pool:
            read += sum(pool.map(block, range(-(-path.stat().st_size // PART_BYTES))))
        os.close(handle)
    return read


def _timed(action: Callable[[], int]) -> tuple[float, int]:
    start = time.perf_counter()
    result = action()
    return time.perf_counter() - start, result


def forget(paths: Iterable[Path]) -> None:
    """Drop files from the page cache."""
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def load_cost(size: int, rounds: int, root: Path | None = None) -> dict[str, float]:
    """Seconds per row of the report for a memory of ``size`` bytes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["blake3", "lightrag.memory.artifact.loading", "lightrag.memory.artifact.saving"])
    with tempfile.TemporaryDirectory(dir=root) as folder:
        marks, here, pickle = Path(folder, "run"), Path(folder, "ours"), Path(folder, "pickled.bin")
        memory = made_memory(size)
        save_memory(memory, here)
        torch.save((memory.keys, memory.values), pickle)
        report: dict[str, float] = {"mib": memory.byte_count / 2**20}
        del memory
        os.sync()
        time.sleep(_SETTLE_SECONDS)
        files = [*here.iterdir(), pickle]
        rows: tuple[tuple[str, bool, bool, Callable[[], int]], ...] = (
            ("disk, cold", True, False, partial(disk, here, direct=False)),
            ("disk directly, cold", True, False, partial(disk, here, direct=True)),
            ("pickled, cold", True, False, partial(pickled, pickle)),
            ("ours, cold", True, False, partial(ours, here)),
            ("ours, cold, known", True, True, partial(ours, here)),
            ("pickled, warm", False, False, partial(pickled, pickle)),
            ("ours, warm", False, False, partial(ours, here)),
            ("ours, warm, known", False, True, partial(ours, here)),
        )
        sums = set()
        for label, cold, known, action in rows:
            taken = []
            for _ in range(rounds):
                if not known:
                    shutil.rmtree(marks, ignore_errors=True)
                    marks.mkdir(mode=0o700)
                if cold:
                    forget(files)
                with context.Pool(1, _use_marks, (str(marks),)) as pool:
                    elapsed, result = pool.apply(_timed, (action,))
                taken.append(elapsed)
                if not label.startswith("disk"):
                    sums.add(result)
            report[label] = min(taken)
        assert len(sums) == 1, "what was loaded differs"
        return report


def _use_marks(folder: str) -> None:
    os.environ["XDG_RUNTIME_DIR"] = folder


def described(report: dict[str, float]) -> str:
    """One line for people."""
    gain = {
        f"{t}{k}": report[f"pickled, {t}"] / report[f"ours, {t}{k}"] for t in ("cold", "warm") for k in ("", ", known")
    }
    best = min(report["disk, cold"], report["disk directly, cold"])
    rows = ", ".join(f"{label} {value * 1e3:.0f} ms" for label, value in report.items() if label != "mib")
    return (
        f"{report['mib']:.0f} MiB: {rows}; faster than unpickling: "
        + ", ".join(f"{label} {value:.1f}x" for label, value in gain.items())
        + f"; of what the disk reads, hash and sum included: {best / report['ours, cold']:.0%}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, nargs="+", default=[0.25, 1.0, 2.0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="on the disk to be measured")
    parser.add_argument("--json", type=Path, help="write the report here too")
    chosen = parser.parse_args()
    reports = []
    for gib in chosen.gib:
        reports.append(load_cost(int(gib * 2**30), chosen.rounds, chosen.folder))
        print(described(reports[-1]), flush=True)
    if chosen.json:
        chosen.json.write_text(json.dumps(reports, indent=1), encoding="utf-8")
