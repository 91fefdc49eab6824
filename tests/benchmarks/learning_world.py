"""A small world to learn compression and memory in: registers of who has what, questions, and a language model.

A register is a list of sentences such as ``Today Keeper Mira bees gladly.``; a question is ``? Mira`` and its answer
the thing behind the name. Fillers come and go, so no position of a sentence has a fixed place. The language model is,
unless another is asked for, a Llama of two layers and 126,000 parameters that learns to look answers up in under a
minute on one core: its first head starts out looking at the token before, which such a model otherwise needs ten times
as long to find.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle, islice, product
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from lightrag.latents.decoder import run_packed
from lightrag.models.tokenization import HuggingFaceTokenizer
from lightrag.training.tasks import Sample, Turn

HIDDEN, HEAD = 64, 32


def _words(count: int, onsets: str, ends: tuple[str, ...]) -> list[str]:
    return ["".join(pair) for pair in islice(product(onsets, ends), count)]


NAMES = [word.capitalize() for word in _words(32, "bdfgklmn", ("ira", "olaf", "eta", "unno"))]
THINGS = _words(32, "prstvwzh", ("ees", "ools", "ints", "ags"))
ROLES = ("Keeper", "Owner", "Buyer", "Maker")
OPENINGS = ("Today", "Once", "Here", "Still")
CLOSINGS = ("gladly", "again", "there", "alone")
VOCABULARY = ("<pad>", ".", "?", *ROLES, *OPENINGS, *CLOSINGS, *NAMES, *THINGS)


@dataclass(frozen=True)
class Register:
    """Sentences and what they say."""

    sentences: tuple[str, ...]
    facts: dict[str, str]

    def passages(self, count: int) -> list[str]:
        """The sentences in so many passages of equal length."""
        size = -(-len(self.sentences) // count)
        return [" ".join(self.sentences[at : at + size]) for at in range(0, len(self.sentences), size)]


def write_register(facts: int, rng: random.Random, fillers: float = 0.3) -> Register:
    """Make up a register; nobody is in it twice. Each of both fillers is there with the given probability."""
    sentences, known = [], {}
    for name in rng.sample(NAMES, facts):
        known[name] = rng.choice(THINGS)
        words = [rng.choice(ROLES), name, known[name]]
        if rng.random() < fillers:
            words.insert(0, rng.choice(OPENINGS))
        if rng.random() < fillers:
            words.append(rng.choice(CLOSINGS))
        sentences.append(" ".join(words) + ".")
    return Register(tuple(sentences), known)


@dataclass(frozen=True)
class World:
    """Text to token ids, registers to samples."""

    fillers: float = 0.3
    """How often a sentence has words that say nothing."""

    @cached_property
    def pretrained(self) -> Any:
        """The tokenizer of ``transformers``: one token per word or mark."""
        from tokenizers import Tokenizer, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        fast = Tokenizer(models.WordLevel({word: number for number, word in enumerate(VOCABULARY)}, "<pad>"))
        fast.pre_tokenizer = pre_tokenizers.Whitespace()
        return PreTrainedTokenizerFast(tokenizer_object=fast, pad_token="<pad>", unk_token="<pad>")

    @cached_property
    def tokenizer(self) -> HuggingFaceTokenizer:
        """The same, as the library reads it."""
        return HuggingFaceTokenizer(self.pretrained.backend_tokenizer)

    def ids(self, text: str) -> tuple[int, ...]:
        """Token ids."""
        return tuple(self.tokenizer.ids_of([text])[0])

    def sample(self, facts: int, passages: int, turns: int, rng: random.Random) -> Sample:
        """A register in passages, with questions about some of its facts."""
        register = write_register(facts, rng, self.fillers)
        asked = rng.sample(sorted(register.facts), min(turns, facts))
        return Sample(
            (),
            tuple(self.ids(passage) for passage in register.passages(passages)),
            tuple(Turn(self.ids(f"? {name}"), self.ids(register.facts[name])) for name in asked),
        )


def new_language_model(seed: int = 0, architecture: str = "llama", **config: Any) -> Any:
    """A language model that has learnt nothing yet; its first head looks at the token before.

    Args:
        seed: of the weights.
        architecture: one with biases at queries and keys, ``llama`` or ``qwen2``.
        config: overrides, for example ``num_hidden_layers=3``.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    shape: dict[str, Any] = {
        "vocab_size": len(VOCABULARY),
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": HEAD,
        "max_position_embeddings": 512,
        "initializer_range": 0.08,
    }
    if architecture == "llama":
        shape["attention_bias"] = True
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **{**shape, **config}))
    attention, slow = model.model.layers[0].self_attn, 4
    turn = model.model.rotary_emb.inv_freq[:slow]
    with torch.no_grad():
        model.model.embed_tokens.weight.normal_(0, 0.5)
        model.lm_head.weight.copy_(model.model.embed_tokens.weight * 0.2)
        # Keys turned by one position meet queries at distance one.
        attention.q_proj.bias[:slow] = 6.5
        attention.k_proj.bias[:slow] = 6.5 * torch.cos(turn)
        attention.k_proj.bias[HEAD // 2 : HEAD // 2 + slow] = 6.5 * torch.sin(turn)
        attention.q_proj.weight[:HEAD] *= 0.1
        attention.k_proj.weight[:HEAD] *= 0.1
    return model


def teach_lookup(model: Any, world: World, steps: int, facts: int, seed: int = 0) -> float:
    """Teach a language model to answer from registers as text, in at most so many steps; returns its accuracy."""
    rng = random.Random(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    recent: list[float] = []
    sizes = cycle([2, 4, 6, facts // 2, facts])
    for step in range(steps):
        size = next(sizes) if step >= steps // 4 else 2 + 2 * (step % 3)
        rows = [world.sample(size, 1, 12, rng) for _ in range(32)]
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 30, 2.5 * (1 - step / steps) + 0.05)
        logits, answers = raw_logits(model, rows)
        loss = F.cross_entropy(logits, answers)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        recent = [*recent[-19:], float((logits.argmax(-1) == answers).float().mean())]
        if step >= steps // 4 + 20 and min(recent) > 0.97:
            break
    model.eval().requires_grad_(False)
    return sum(recent) / len(recent)


def raw_logits(model: Any, samples: list[Sample]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits where the answers to samples given as text are predicted, and the answers."""
    ids: list[int] = []
    rows: list[int] = []
    lengths: list[int] = []
    answers: list[int] = []
    for sample in samples:
        first = len(ids)
        ids += [token for passage in sample.passages for token in passage]
        for turn in sample.turns:
            ids += [*turn.prompt, *turn.answer]
            rows.append(len(ids) - 2)
            answers += turn.answer
        lengths.append(len(ids) - first)
    hidden = run_packed(model.model, torch.tensor(ids), lengths, rows=torch.tensor(rows))
    return model.lm_head(hidden), torch.tensor(answers)


def save_language_model(model: Any, world: World, folder: Path) -> Path:
    """As a checkpoint that the library loads."""
    model.save_pretrained(folder)
    world.pretrained.save_pretrained(folder)
    return folder
