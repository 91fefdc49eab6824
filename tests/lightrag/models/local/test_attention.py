"""Attention in parts equals attention over everything; sampling and the cache of a running batch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from lightrag.models.base import Sampling
from lightrag.models.local.attention import Prefix, SharedMemory, attend, shared_prefix_attention
from lightrag.models.local.cache import TailCache
from lightrag.models.local.sampling import Chooser


class Layer(torch.nn.Module):
    layer_idx = 0
    num_key_value_groups = 2


@settings(max_examples=30, deadline=None)
@given(
    batch=st.integers(1, 4),
    rows=st.integers(1, 5),
    own=st.integers(1, 9),
    cells=st.integers(1, 40),
    seed=st.integers(0, 99),
)
def test_memory_and_own_keys_attended_apart_equal_them_attended_together(
    batch: int, rows: int, own: int, cells: int, seed: int
) -> None:
    torch.manual_seed(seed)
    own = max(own, rows)
    query = torch.randn(batch, 4, rows, 16)
    key, value = torch.randn(2, batch, 2, own, 16).unbind()
    first, second = ((torch.randn(2, size, 16), torch.randn(2, size, 16)) for size in (cells, cells + 3))
    mask = torch.ones(rows, own, dtype=torch.bool).tril(own - rows).expand(batch, 1, rows, own)
    members = [torch.arange(0, batch, 2), torch.arange(1, batch, 2)]
    shared = [SharedMemory([memory], group) for memory, group in zip((first, second), members, strict=True)]
    prefix = Prefix([each for each in shared if each.rows is not None and len(each.rows)])
    output, _ = shared_prefix_attention(Layer(), query, key, value, mask, scaling=0.25, prefix=prefix)
    for row in range(batch):
        keys, values = first if row % 2 == 0 else second
        seen = torch.cat([torch.ones(rows, keys.shape[1], dtype=torch.bool), mask[row, 0]], dim=1)
        expected = scaled_dot_product_attention(
            query[row],
            torch.cat([keys, key[row]], dim=1).repeat_interleave(2, 0),
            torch.cat([values, value[row]], dim=1).repeat_interleave(2, 0),
            attn_mask=seen,
            scale=0.25,
        )
        torch.testing.assert_close(output[row].transpose(0, 1), expected, atol=1e-5, rtol=1e-5)
    assert prefix.layers_seen == {0}


def test_devices_without_a_fused_kernel_compute_the_same() -> None:
    from lightrag.models.local import attention

    torch.manual_seed(0)
    query, key, value = torch.randn(2, 3, 5, 16), torch.randn(2, 3, 7, 16), torch.randn(2, 3, 7, 16)
    mask = torch.ones(5, 7, dtype=torch.bool).tril(2)[None, None]
    for chosen in (None, mask):
        fused = attend(query, key, value, 0.3, chosen)
        plain = attention._attend_plainly(query, key, value, 0.3, chosen)
        torch.testing.assert_close(fused.output, plain.output, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(fused.log_sum_exp, plain.log_sum_exp, atol=1e-5, rtol=1e-5)


def states(batch: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(batch, 2, columns, 4), torch.randn(batch, 2, columns, 4)


def test_sequences_join_and_leave_aligned_at_their_ends() -> None:
    first, second = TailCache(1), TailCache(1)
    long_keys, long_values = states(2, 100)
    short_keys, short_values = states(1, 3)
    first.update(long_keys, long_values, 0)
    second.update(short_keys, short_values, 0)
    first.join(second)
    new = states(3, 1)
    keys, values = first.update(*new, 0)
    assert keys.shape == (3, 2, 101, 4)
    torch.testing.assert_close(keys[:2, :, :100], long_keys)
    torch.testing.assert_close(values[2:, :, 97:100], short_values)
    assert not keys[2, :, :97].any()
    first.keep(torch.tensor([2]), 4)
    assert first.get_seq_length() == 4
    keys, _ = first.update(*states(1, 1), 0)
    torch.testing.assert_close(keys[:, :, :3], short_keys)
    torch.testing.assert_close(keys[:, :, 3], new[0][2:, :, 0])


def test_growing_does_not_copy_at_every_token() -> None:
    cache = TailCache(1)
    cache.update(*states(1, 10), 0)
    addresses = {cache.update(*states(1, 1), 0)[0].data_ptr() for _ in range(500)}
    assert len(addresses) < 12


@pytest.mark.parametrize(("top_p", "allowed"), [(1.0, {0, 1, 2, 3}), (0.8, {0, 1}), (0.4, {0})])
def test_sampling_follows_the_distribution_within_the_nucleus(top_p: float, allowed: set[int]) -> None:
    shares = torch.tensor([0.5, 0.3, 0.15, 0.05])
    chooser = Chooser(Sampling(temperature=2.0, top_p=top_p, seed=0))
    drawn = [chooser.choose(shares.log() * 2.0) for _ in range(2000)]
    assert set(drawn) == allowed
    kept = shares[: len(allowed)] / shares[: len(allowed)].sum()
    for token, share in enumerate(kept):
        assert abs(drawn.count(token) / 2000 - share) < 0.04
