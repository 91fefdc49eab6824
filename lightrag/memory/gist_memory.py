"""Gists written by a memory model itself, and the text that a memory of gists is made of (MemoRAG Lite).

Knows nothing of corpora or storage: chunks and gists in, a text out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from blake3 import blake3

from lightrag.config import GistSettings
from lightrag.errors import LimitError
from lightrag.memory.gist_batches import TokenBatches
from lightrag.memory.gists import Gister, bounded, corpus_gists, top_gists
from lightrag.memory.prompts import prompts_for
from lightrag.memory.text_memory import TextMemory
from lightrag.types import Gist, Tokenizer


class MemoryGister:
    """Condenses with the model that will read the gists, in batches under a token budget.

    Args:
        memory: the model with its tokenizer and chat layout.
        tokenizer: the same tokenizer, as the library counts with it.
        batches: decides how many texts are read at once.
        window: positions of the model; texts that do not fit are refused.
    """

    method: Literal["extractive", "prompted"] = "prompted"

    def __init__(self, memory: TextMemory, tokenizer: Tokenizer, batches: TokenBatches, *, window: int) -> None:
        self._memory = memory
        self._batches = batches
        self._window = window
        self.tokenizer = tokenizer

    @property
    def fingerprint(self) -> str:
        """The model's identity and the prompts in use."""
        return f"memory-{self._memory.model.identity.fingerprint}-{prompts_fingerprint()}"

    async def condense(self, texts: Sequence[str], tokens: int, language: str) -> list[str]:
        """Ask for a gist of each text; see :class:`~lightrag.memory.gists.Gister`."""
        prompts = self._memory.prompts(language)
        instructions = [prompts.fill("gist", context=text) for text in texts]
        # Models write somewhat more than they are asked for; what is too much is cut at a sentence.
        most = 2 * tokens
        sizes = [len(self._memory.instruction_ids(instruction)) + most for instruction in instructions]
        if sizes and max(sizes) > self._window:
            raise LimitError(
                f"a text of {max(sizes) - most} tokens and a gist of it do not fit the {self._window} tokens of the "
                "memory model: lower gists.chunks_per_gist"
            )
        replies = self._batches.run(instructions, sizes, lambda batch: self._memory.complete(batch, max_tokens=most))
        return [bounded(reply.text, tokens, self.tokenizer) for reply in replies]


def prompts_fingerprint() -> str:
    """Changes with the prompts that ask for gists."""
    return blake3((prompts_for("en").gist + prompts_for("zh").gist).encode()).hexdigest(6)


async def fitting_gists(
    gists: Sequence[Gist], budget: int, tokenizer: Tokenizer, gister: Gister, settings: GistSettings, language: str
) -> list[Gist]:
    """The gists, or where they are too long together, the lowest level above them that fits.

    Args:
        gists: of level 0, in order.
        budget: tokens of ``tokenizer`` that they may take.
        tokenizer: of the model that will read them.
        gister: condenses further; it counts by a tokenizer of its own.
        settings: how many are condensed into one.
        language: of most of them.

    Raises:
        LimitError: even one gist is longer than the budget.
    """
    current = list(gists)
    while len(current) > 1:
        needed = sum(tokenizer.count(gist.text) + 1 for gist in current)
        if needed <= budget:
            break
        own = sum(gist.tokens for gist in current)
        allowed = settings.model_copy(update={"budget_tokens": max(settings.tokens_per_gist, own * budget // needed)})
        above = await corpus_gists(current, gister, allowed, language)
        if not above:
            raise LimitError(f"{len(current)} gists of {needed} tokens do not fit into a memory of {budget} tokens")
        current = top_gists(above)
    return current


__all__ = ["MemoryGister", "fitting_gists", "prompts_fingerprint"]
