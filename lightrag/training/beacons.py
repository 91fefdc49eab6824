"""What beacon memory models are trained on: texts and conversations, window by window, with gradients through memory.

Only what is named ``beacon`` is trained: projections of beacon rows, and the beacon embedding. Source: MemoRAG
(arXiv 2409.05591) section 4 and the behaviour of its published trainer; a batch holds samples with equally many
windows, and draws one ratio for each window.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightrag.errors import UsageError
from lightrag.memory.beacon.checkpoint import load_decoder
from lightrag.memory.beacon.config import BeaconConfig
from lightrag.memory.beacon.decoder import BeaconDecoder
from lightrag.memory.beacon.loss import LabelledTokens, count_windows, windowed_losses
from lightrag.memory.identity import identify_model
from lightrag.training.beacon_checkpoint import write_beacon_checkpoint


class BeaconTrainee:
    """A beacon model whose ordinary weights stay as they are.

    Args:
        decoder: from :func:`lightrag.memory.beacon.checkpoint.load_decoder`.
        config: of the decoder.
        source: checkpoint that it was loaded from; its ordinary weights are linked, not written again.
    """

    name = "memory_model"

    def __init__(self, decoder: BeaconDecoder, config: BeaconConfig, source: Path) -> None:
        self.model = decoder
        self.config = config
        self.source = source
        for parameter in self.parameters.values():
            # Small updates would be lost in the rounding of bfloat16.
            parameter.data = parameter.data.float()

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        **overrides: Any,
    ) -> BeaconTrainee:
        """Load a beacon checkpoint, or make a beacon model of an ordinary one.

        Beacon projections that are missing start as copies of the ordinary ones, the beacon embedding as a copy of that
        of the end of text.

        Args:
            folder: checkpoint of a supported decoder.
            dtype: of the ordinary weights; trained ones are float32 always. Another one needs the loop's ``precision``.
            device: where it is trained.
            overrides: replace fields of ``config.json``, for example ``beacon_window=2048``.

        Raises:
            ConfigurationError: the configuration is not one of a supported decoder.
            ArtifactError: weights are missing or damaged.
            UsageError: nothing of it could be trained.
        """
        path = Path(folder)
        if "beacon_window" in overrides:
            overrides.setdefault("beacon_stride", overrides["beacon_window"])
        config = BeaconConfig.read(path, **overrides)
        if not config.params:
            raise UsageError("no projection has a beacon version; name some in beacon_param, as published q, k and v")
        return cls(load_decoder(path, config, dtype=dtype, device=torch.device(device)), config, path)

    @property
    def parameters(self) -> Mapping[str, torch.nn.Parameter]:
        """Beacon projections and embedding."""
        return {name: parameter for name, parameter in self.model.named_parameters() if "beacon" in name}

    def save(self, target: Path) -> None:
        """Write the model in the published layout."""
        write_beacon_checkpoint(target, self.source, self.config, self.model)


class BeaconTask:
    """Predict the counted tokens of samples from the open window and the memory of those before it.

    Pre-training and instruction tuning differ in their samples alone, see :mod:`lightrag.training.memory_data`.

    Args:
        trainee: model that is trained.
        samples: with at least two windows each.
        recompute: trade time for memory by computing every window again in the backward pass.

    Raises:
        UsageError: a sample has no second window, so that nothing in it would read the memory.
    """

    def __init__(self, trainee: BeaconTrainee, samples: Sequence[LabelledTokens], *, recompute: bool = False) -> None:
        self.trainee = trainee
        self._samples = samples
        self._recompute = recompute
        window = trainee.config.window
        groups: dict[int, list[int]] = {}
        for number, sample in enumerate(samples):
            groups.setdefault(count_windows(len(sample.token_ids), window), []).append(number)
        if short := [*groups.get(0, ()), *groups.get(1, ())]:
            raise UsageError(
                f"sample {short[0]} has {len(samples[short[0]].token_ids)} tokens and so no second window of {window} "
                "that would read the memory; leave it out, or make windows smaller"
            )
        self.groups = [groups[windows] for windows in sorted(groups)]

    @property
    def recipe(self) -> dict[str, Any]:
        """See :class:`lightrag.training.loop.Task`."""
        config = self.trainee.config
        return {
            "task": "beacons",
            "window": config.window,
            "ratios": list(config.ratios),
            "ratio_mix": config.ratio_mix,
            "beacon_param": sorted(config.params),
            "model": identify_model(self.trainee.source).weights_id,
            "data": _fingerprint(self._samples),
        }

    def loss(self, indices: Sequence[int], rng: random.Random) -> Tensor:
        """Mean of the samples' losses per token; outside of training the last window has beacons too."""
        generator = np.random.default_rng(rng.getrandbits(64))
        losses = windowed_losses(
            self.trainee.model,
            self.trainee.config,
            [self._samples[index] for index in indices],
            generator=generator,
            training=self.trainee.model.training,
            recompute=self._recompute,
        )
        return losses.means.mean()


def _fingerprint(samples: Sequence[LabelledTokens]) -> str:
    from blake3 import blake3

    total = blake3()
    for sample in samples:
        total.update(np.asarray(sample.token_ids, np.int32).tobytes())
        total.update(np.asarray(sample.labels, np.int32).tobytes())
    return total.hexdigest(16)


__all__ = ["BeaconTask", "BeaconTrainee"]
