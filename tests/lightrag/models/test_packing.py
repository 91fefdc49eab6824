"""Packed linear layers against PyTorch's own; and which layers stay as they are."""

from __future__ import annotations

import copy
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lightrag.errors import UsageError
from lightrag.models import packing
from lightrag.models.packing import PackedLinear, pack_linear_layers

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")


class Tied(nn.Module):
    """A language model in small: its head is its embedding, but for a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(12, 6)
        self.body = nn.Sequential(nn.Linear(6, 6), nn.GELU(), nn.Linear(6, 6, bias=False))
        self.head = nn.Linear(6, 12)
        self.head.weight = self.embedding.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.head(self.body(self.embedding(ids)))
        return result


@settings(max_examples=60, deadline=None)
@given(
    leading=st.lists(st.integers(1, 5), max_size=3),
    width=st.integers(1, 70),
    outputs=st.integers(1, 70),
    bias=st.booleans(),
    transposed=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_outputs_are_those_of_the_layer(
    leading: list[int], width: int, outputs: int, bias: bool, transposed: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    layer = nn.Linear(width, outputs, bias=bias)
    inputs = torch.randn(*leading, width)
    if transposed and leading:  # not laid out in one piece
        inputs = inputs.transpose(0, -1).contiguous().transpose(0, -1)
    with torch.inference_mode():
        torch.testing.assert_close(PackedLinear(layer)(inputs), layer(inputs), rtol=1e-5, atol=1e-5)


def test_a_model_says_the_same_and_shared_weights_stay() -> None:
    model = Tied().eval()
    packed = copy.deepcopy(model)
    pack_linear_layers(packed)
    assert [type(layer) for layer in (*packed.body, packed.head)] == [PackedLinear, nn.GELU, PackedLinear, nn.Linear]
    assert packed.head.weight is packed.embedding.weight
    ids = torch.arange(12).reshape(3, 4)
    with torch.inference_mode():
        torch.testing.assert_close(packed(ids), model(ids))


def test_packing_twice_changes_nothing_more() -> None:
    model = Tied().eval()
    pack_linear_layers(model)
    layers = list(model.body)
    pack_linear_layers(model)
    assert all(now is before for now, before in zip(model.body, layers, strict=True))


def test_a_layer_goes_before_the_next_is_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(4)))
    layers = [weakref.ref(layer) for layer in model]
    alive: list[int] = []

    class Counted(PackedLinear):
        def __init__(self, layer: nn.Linear) -> None:
            alive.append(sum(each() is not None for each in layers))
            super().__init__(layer)

    monkeypatch.setattr(packing, "PackedLinear", Counted)
    pack_linear_layers(model)
    assert alive == [4, 3, 2, 1]


def test_what_other_code_relies_on_is_left_alone() -> None:
    class Adapted(nn.Linear):
        """As adapters and quantised layers are made."""

    model = nn.ModuleDict({"halved": nn.Linear(4, 4, dtype=torch.bfloat16), "adapted": Adapted(4, 4)})
    once = nn.Linear(4, 4)
    model["first"], model["second"] = once, once
    pack_linear_layers(model)
    assert type(model["halved"]) is nn.Linear
    assert type(model["adapted"]) is Adapted
    packed = model["first"]
    assert isinstance(packed, PackedLinear)
    assert model["second"] is packed
    # Models are asked for the place and precision of their weights.
    assert (packed.weight.device.type, packed.weight.dtype) == ("cpu", torch.float32)
    assert (packed.in_features, packed.out_features) == (4, 4)


def test_its_state_is_that_of_the_layers_it_was() -> None:
    model = Tied().eval()
    packed = copy.deepcopy(model)
    pack_linear_layers(packed)
    before, after = model.state_dict(), packed.state_dict()
    assert sorted(before) == sorted(after)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_gradients_are_refused_instead_of_being_wrong() -> None:
    layer = PackedLinear(nn.Linear(3, 2))
    inputs = torch.ones(1, 3, requires_grad=True)
    with pytest.raises(UsageError, match="loaded for inference"):
        layer(inputs)
    with torch.no_grad():
        assert layer(inputs).shape == (1, 2)
