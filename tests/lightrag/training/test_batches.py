"""Which examples a step sees: everything in every epoch, one group per batch, the same on every worker."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.training.batches import batch_indices, grouped_indices

groups = st.lists(st.integers(1, 9), min_size=2, max_size=4)


def numbered(sizes: list[int]) -> list[list[int]]:
    made, at = [], 0
    for size in sizes:
        made.append(list(range(at, at + size)))
        at += size
    return made


@settings(deadline=None, max_examples=60)
@given(sizes=groups, batch_size=st.integers(1, 5), epoch=st.integers(0, 3), seed=st.integers(0, 9))
def test_an_epoch_goes_through_all_groups_and_mixes_none(
    sizes: list[int], batch_size: int, epoch: int, seed: int
) -> None:
    members = numbered(sizes)
    steps = sum(-(-size // batch_size) for size in sizes)
    seen: Counter[int] = Counter()
    for step in range(epoch * steps, (epoch + 1) * steps):
        batch = grouped_indices(members, batch_size, step, seed)
        assert len(batch) == batch_size
        assert any(set(batch) <= set(group) for group in members)
        assert batch == grouped_indices(members, batch_size, step, seed)
        seen.update(batch)
    assert sorted(seen) == list(range(sum(sizes)))
    for group in members:
        extra = sum(seen[number] for number in group) - len(group)
        assert 0 <= extra < batch_size


@settings(deadline=None, max_examples=40)
@given(examples=st.integers(1, 12), batch_size=st.integers(1, 7), seed=st.integers(0, 9))
def test_a_single_group_leaves_nothing_out_and_repeats_nothing_early(examples: int, batch_size: int, seed: int) -> None:
    drawn = [index for step in range(4 * examples) for index in batch_indices(examples, batch_size, step, seed)]
    for epoch in range(len(drawn) // examples):
        assert sorted(drawn[epoch * examples : (epoch + 1) * examples]) == list(range(examples))
    shifted = [place + 100 for place in range(examples)]
    assert grouped_indices([shifted], batch_size, 3, seed) == [
        place + 100 for place in batch_indices(examples, batch_size, 3, seed)
    ]
