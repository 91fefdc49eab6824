"""Two real workers of a process group, without a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as processes

from lightrag.training import parallel
from lightrag.training.parallel import Workers


def compute(rank: int, meeting: str, results: str) -> None:
    """What each worker does; top level, because a new process imports it."""
    torch.set_num_threads(1)
    parallel._BUCKET_BYTES = 64  # several messages for a few numbers
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    workers = Workers.current()
    device = torch.device("cpu")
    parameters = [
        torch.zeros(3, 5, requires_grad=True),
        torch.zeros(40, requires_grad=True),
        torch.zeros(2, dtype=torch.float64, requires_grad=True),
        torch.zeros(1, requires_grad=True),
    ]
    for number, parameter in enumerate(parameters):
        if (rank, number) != (1, 1):
            parameter.grad = torch.full_like(parameter, 10.0 * number + rank + 1)
    workers.sum_gradients(parameters)
    found = {
        "own": list(workers.own(5)),
        "first": workers.first,
        "values": workers.sum_values([1.5, rank], device),
        "agree": [workers.agree(7, device), workers.agree(rank, device), workers.agree(-rank, device)],
        "gradients": [parameter.grad for parameter in parameters],
    }
    workers.wait()
    torch.save(found, Path(results) / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_workers_share_parts_and_agree_on_sums(tmp_path: Path) -> None:
    processes.spawn(compute, args=(str(tmp_path / "meeting"), str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert (first["own"], second["own"]) == ([0, 2, 4], [1, 3])
    assert (first["first"], second["first"]) == (True, False)
    for found in (first, second):
        assert found["values"] == [3.0, 1.0]
        assert found["agree"] == [True, False, False]
        # The second worker had no gradient for the second parameter.
        for gradient, value in zip(found["gradients"], (3.0, 11.0, 43.0, 63.0), strict=True):
            assert gradient.eq(value).all()


def test_a_single_process_is_the_only_worker() -> None:
    alone = Workers.current()
    assert alone == Workers(0, 1)
    assert list(alone.own(3)) == [0, 1, 2]
    parameter = torch.zeros(2, requires_grad=True)
    alone.sum_gradients([parameter])
    assert parameter.grad is not None
    assert alone.sum_values([2.5], torch.device("cpu")) == [2.5]
    assert alone.agree(3, torch.device("cpu"))
    with pytest.raises(AttributeError):
        alone.rank = 2  # type: ignore[misc]  # frozen, and that is the test
