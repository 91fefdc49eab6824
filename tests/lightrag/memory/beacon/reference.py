"""The published way of computing beacon memories, written the slow and obvious way, to compare against.

One sequence at a time; keys are kept unrotated, everything is concatenated and rotated again in every step, every step
has a dense mask, and every row is projected with both kinds of weights. It shares no arithmetic with the product, only
the checkpoint's tensor names. Where the published code is wrong (sinks fed in pieces, interleaved step-expansion), it
does what was meant.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor


class Reference:
    """A stateful beacon model, as published: reading changes the object."""

    def __init__(self, folder: Path, **overrides: Any) -> None:
        self.c: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8")) | overrides
        self.w = {name: w.float() for path in folder.glob("*.safetensors") for name, w in load_file(path).items()}
        self.w.setdefault("lm_head.weight", self.w["model.embed_tokens.weight"])
        self.heads, self.kv = self.c["num_attention_heads"], self.c["num_key_value_heads"]
        self.width = self.c["hidden_size"] // self.heads
        self.generator = np.random.default_rng(42)
        self.reset()

    def reset(self) -> None:
        layers = self.c["num_hidden_layers"]
        nothing = torch.empty(self.kv, 0, self.width)
        self.sink = [(nothing, nothing)] * layers
        self.mem = [(nothing, nothing)] * layers
        self.raw = [(nothing, nothing)] * layers
        self.flags: list[int] = []
        self.t = self.rho = self.windows = self.received = 0
        self.ratio: int | None = None
        self.sticky: int | None = None
        self.rope_length = 0

    def pick(self, total: int) -> int:
        ratios, mix = self.c["beacon_ratio"], self.c["beacon_ratio_mix"]
        if len(ratios) == 1:
            return ratios[0]
        window = self.c["beacon_window"]
        usable = [r for r in ratios if r == 0 or window % r == 0]
        if mix == "step-random":
            return int(self.generator.choice(usable))
        if mix == "sequence":
            self.windows += 1
            return usable[(self.windows - 1) % len(usable)]
        if self.sticky is None:
            if mix == "instance-random":
                self.sticky = int(self.generator.choice(usable))
            else:
                scaling = self.c.get("rope_scaling") or {}
                reach = self.c["max_position_embeddings"] * scaling.get("factor", 1)
                capacity = {r: (reach - window) * r + window if r else reach for r in usable}
                need = total + int(mix.split("-")[1])
                fits = [r for r in usable if capacity[r] >= need]
                self.sticky = min(fits, key=capacity.__getitem__) if fits else max(usable)
        return self.sticky

    def read(self, ids: Sequence[int], *, skip_first: int = 0, skip_last: int | None = None) -> Tensor:
        """Return the logits of the last step's real tokens."""
        total, at, logits = self.received + len(ids), 0, torch.empty(0)
        while at < len(ids):
            absolute = self.received
            if skip_first and absolute == 0:
                take, full, keep = skip_first, True, True
            elif skip_last is not None and absolute - self.t >= skip_last:
                take, full, keep = min(self.c["beacon_window"], len(ids) - at), False, True
            else:
                take = min(self.c["beacon_window"] - self.t, len(ids) - at)
                full, keep = self.t + take == self.c["beacon_window"], False
            logits = self.step(list(ids[at : at + take]), full, keep, skip_first and absolute == 0, total)
            at += take
            self.received += take
        return logits

    def step(self, ids: list[int], full: bool, keep: bool, to_sink: bool, total: int) -> Tensor:
        flags = [0] * len(ids)
        if not keep and self.c["beacon_pos"] == "interleave":
            if self.t == 0:
                self.ratio = self.pick(total)
            flags = []
            for _ in ids:
                flags.append(0)
                if self.ratio:
                    self.rho += 1
                    if self.rho == self.ratio:
                        flags.append(1)
                        self.rho = 0
        elif not keep and full:
            self.ratio = self.pick(total)
            flags += [1] * (self.c["beacon_window"] // self.ratio if self.ratio else 0)
        first_window = not self.mem[0][0].shape[1] and not self.sink[0][0].shape[1]
        window = [*self.flags, *flags]
        logits, new = self.forward(ids, flags, window)
        if to_sink:
            self.sink = new
            return logits
        self.raw = [tuple(torch.cat(p, 1) for p in zip(o, n, strict=True)) for o, n in zip(self.raw, new, strict=True)]
        self.flags = window
        if not keep:
            self.t += len(ids)
        if full:
            size = self.c["beacon_sink_size"]
            if first_window and size:
                self.sink = [(k[:, :size], v[:, :size]) for k, v in self.raw]
            stays = torch.tensor([f == 1 or self.ratio == 0 for f in window])
            kept = [(k[:, stays], v[:, stays]) for k, v in self.raw]
            self.mem = [
                tuple(torch.cat(p, 1) for p in zip(o, n, strict=True)) for o, n in zip(self.mem, kept, strict=True)
            ]
            self.raw = [(k[:, :0], v[:, :0]) for k, v in self.raw]
            self.flags, self.t = [], 0
        return logits

    def forward(
        self, ids: list[int], flags: list[int], window: list[int]
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        w, marks = self.w, torch.tensor(flags).bool()
        x = torch.empty(len(flags), self.c["hidden_size"])
        x[~marks] = w["model.embed_tokens.weight"][torch.tensor(ids)]
        x[marks] = w["model.beacon_embed_tokens.weight"][0]
        new = []
        for layer in range(self.c["num_hidden_layers"]):
            name = f"model.layers.{layer}."
            h = self.norm(x, w[name + "input_layernorm.weight"])
            q, k, v = (self.project(h, name + "self_attn.", p, marks) for p in "qkv")
            new.append((k, v))
            parts = (self.sink[layer], self.mem[layer], self.raw[layer])
            keys, values = (torch.cat([p[i] for p in parts] + [n], 1) for i, n in ((0, k), (1, v)))
            positions, visible = self.layout(keys.shape[1], len(flags), window)
            cos, sin, heat = self.rope(positions)
            q = self.turn(q, cos[-len(flags) :], sin[-len(flags) :]) * heat[-len(flags) :, None]
            keys = self.turn(keys, cos, sin)
            group = self.heads // self.kv
            keys, values = keys.repeat_interleave(group, 0), values.repeat_interleave(group, 0)
            scores = (q @ keys.transpose(1, 2) / math.sqrt(self.width)).masked_fill(~visible, -3e38)
            a = (scores.softmax(-1) @ values).transpose(0, 1).flatten(1)
            x = x + self.project(a, name + "self_attn.", "o", marks, heads=False)
            h = self.norm(x, w[name + "post_attention_layernorm.weight"])
            gate = torch.nn.functional.silu(h @ w[name + "mlp.gate_proj.weight"].T)
            x = x + (gate * (h @ w[name + "mlp.up_proj.weight"].T)) @ w[name + "mlp.down_proj.weight"].T
        logits = self.norm(x, w["model.norm.weight"]) @ w["lm_head.weight"].T
        return logits[~marks], new

    def norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + self.c["rms_norm_eps"]) * weight

    def project(self, h: Tensor, name: str, p: str, marks: Tensor, heads: bool = True) -> Tensor:
        def one(prefix: str) -> Tensor:
            out = h @ self.w[f"{name}{prefix}{p}_proj.weight"].T
            return out + self.w.get(f"{name}{prefix}{p}_proj.bias", torch.zeros(1))

        y = torch.where(marks[:, None], one("beacon_"), one("")) if p in self.c["beacon_param"] else one("")
        return y.view(len(marks), -1, self.width).transpose(0, 1) if heads else y

    def layout(self, cells: int, rows: int, window: list[int]) -> tuple[Tensor, Tensor]:
        positions, visible = torch.arange(cells), torch.ones(rows, cells).tril(cells - rows).bool()
        if self.c["beacon_attn"] != "step-expansion" or 1 not in window:
            return positions, visible
        start = cells - len(window)
        columns = [start + i for i, f in enumerate(window) if f]
        if self.c["beacon_pos"] == "interleave":
            place = start
            for i in range(len(window)):
                place += 0 if i and window[i - 1] else (1 if i else 0)
                positions[start + i] = place
            visible[:, columns] = False
        else:
            tokens = [start + i for i, f in enumerate(window) if not f]
            for j, column in enumerate(columns):
                seen = (j + 1) * self.ratio
                row = column - (cells - rows)
                visible[row, tokens[seen:]] = False
                if not self.c["beacon_attend_prev"]:
                    visible[row, columns] = False
                positions[column] = tokens[seen - 1] + (j + 1 if self.c["beacon_attend_prev"] else 1)
        for row in range(rows):
            visible[row, cells - rows + row] = True
        return positions, visible

    def rope(self, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scaling = self.c.get("rope_scaling") or {"type": "default"}
        kind, s = scaling.get("rope_type", scaling.get("type")), scaling.get("factor", 1.0)
        theta, d, longest = self.c.get("rope_theta", 10000.0), self.width, self.c["max_position_embeddings"]
        self.rope_length = max(self.rope_length, len(positions))
        i = torch.arange(d // 2, dtype=torch.float32)
        places, scale, heat = positions.float(), 1.0, torch.ones(len(positions))
        if kind == "dynamic" and self.rope_length > longest:
            theta = theta * ((s * self.rope_length / longest) - (s - 1)) ** (d / (d - 2))
        freq = theta ** (-2 * i / d)
        if kind == "linear":
            places = places / s
        if kind.startswith("yarn"):
            if self.rope_length > math.ceil(longest * s):
                s = self.rope_length / longest
            lo = max(math.floor(d / 2 * math.log(longest / (2 * math.pi * 128)) / math.log(theta)), 0)
            hi = min(math.ceil(d / 2 * math.log(longest / (2 * math.pi * 2)) / math.log(theta)), d - 1)
            m = 1 - ((i - lo) / (hi - lo + (0.001 if hi == lo else 0))).clamp(0, 1)
            freq = m * freq + (1 - m) * freq / s
            if kind == "yarn":
                scale = 0.07 * math.log(s) + 1
            elif kind == "yarn-t":
                heat = (0.07 * torch.log((positions + 1) / longest) + 1) ** 2
            else:
                heat = torch.log(positions + 1.0) / math.log(longest)
            heat = torch.where(positions < longest, torch.ones(()), heat)
        if kind == "llama3":
            original = scaling["original_max_position_embeddings"]
            turned = []
            for f in freq.tolist():
                wavelength = 2 * math.pi / f
                smooth = (original / wavelength - scaling["low_freq_factor"]) / (
                    scaling["high_freq_factor"] - scaling["low_freq_factor"]
                )
                smooth = min(max(smooth, 0.0), 1.0)
                turned.append((1 - smooth) * f / s + smooth * f)
            freq = torch.tensor(turned)
        angles = torch.outer(places, freq)
        both = torch.cat((angles, angles), -1)
        return both.cos() * scale, both.sin() * scale, heat

    def turn(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        half = self.width // 2
        return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin

    def cells(self) -> tuple[Tensor, Tensor]:
        """All unrotated keys and values in order, each of shape (layers, kv_heads, cells, head_dim)."""
        joined = [
            [
                torch.cat([part[layer][i] for part in (self.sink, self.mem, self.raw)], 1)
                for layer in range(len(self.mem))
            ]
            for i in (0, 1)
        ]
        return torch.stack(joined[0]), torch.stack(joined[1])
