"""Models without weights, for tests and dry runs of applications: answers from a script, vectors from hashes.

They keep the contracts of the real ones (limits, usage, streaming, refusals), so that code tested with them works
with those. Neither loads any heavy library.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
from blake3 import blake3

from lightrag.errors import LimitError, UsageError
from lightrag.models.base import Capability, Completion, CompletionDelta, FloatMatrix, Prompt, Sampling
from lightrag.models.tokenization import EstimatingTokenizer
from lightrag.types import Usage

Script = Iterable[str | Exception] | Callable[[Prompt, Sampling], str]


class Call(NamedTuple):
    """One prompt that a scripted model was asked."""

    prompt: Prompt
    sampling: Sampling


class ScriptedLanguageModel:
    """A language model that says what it is told to.

    Args:
        script: answers in the order of the calls, where an exception is raised instead of answered; or a function of
            the prompt, which may raise as well.
        name: as shown in answers.
        context_tokens: longer prompts are refused, as real models do.
        capabilities: what it claims to accept besides text.
        seconds: how long every call takes, to test deadlines and cancellation.

    Example:
        >>> model = ScriptedLanguageModel(["It was opened in 1874.", TimeoutError("too slow")])
        >>> asyncio.run(model.complete([Prompt.of("When?")]))[0].text
        'It was opened in 1874.'
        >>> model.calls[0].prompt.messages[-1].text
        'When?'
    """

    def __init__(
        self,
        script: Script,
        *,
        name: str = "scripted",
        context_tokens: int = 8192,
        capabilities: Iterable[Capability] = (),
        seconds: float = 0.0,
    ) -> None:
        self.name = name
        self.context_tokens = context_tokens
        self.capabilities: frozenset[Capability] = frozenset(capabilities)
        self.tokenizer = EstimatingTokenizer()
        self.calls: list[Call] = []
        """Every prompt so far, refused ones included."""
        self.usage = Usage()
        """What all answered calls cost together."""
        self.cancelled = 0
        """Calls that were given up before they had answered."""
        self._answer = script if callable(script) else _in_order(iter(script))
        self._seconds = seconds

    async def complete(self, prompts: Sequence[Prompt], sampling: Sampling | None = None) -> list[Completion]:
        """Answer every prompt by the script, in order.

        Raises:
            LimitError: a prompt does not fit.
            UsageError: the script has no further answer.
        """
        return [await self._complete(prompt, sampling or Sampling()) for prompt in prompts]

    async def stream(self, prompt: Prompt, sampling: Sampling | None = None) -> AsyncGenerator[CompletionDelta, None]:
        """Answer one prompt word by word."""
        completion = await self._complete(prompt, sampling or Sampling())
        for piece in re.findall(r"\s*\S+|\s+\Z", completion.text):
            yield CompletionDelta(piece)
        yield CompletionDelta("", completion.finish_reason, completion.usage)

    async def close(self) -> None:
        """Do nothing; there is nothing to free."""

    async def _complete(self, prompt: Prompt, sampling: Sampling) -> Completion:
        self.calls.append(Call(prompt, sampling))
        cells = prompt.memory.cells if prompt.memory else 0
        length = cells + sum(self.tokenizer.count(message.text) for message in prompt.messages)
        if length + sampling.max_tokens > self.context_tokens:
            raise LimitError(
                f"the prompt of {length} tokens and {sampling.max_tokens} for the answer do not fit the "
                f"{self.context_tokens} tokens of model {self.name!r}",
                subject=self.name,
            )
        try:
            await asyncio.sleep(self._seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        text, reason = self._limited(self._answer(prompt, sampling), sampling)
        usage = Usage(length, self.tokenizer.count(text), cells, calls=1)
        self.usage += usage
        return Completion(text, reason, usage)

    def _limited(self, text: str, sampling: Sampling) -> tuple[str, Literal["stop", "length"]]:
        text = text[: min((text.find(stop) for stop in sampling.stop if stop in text), default=len(text))]
        spans = self.tokenizer.spans(text)
        if len(spans) > sampling.max_tokens:
            return text[: spans[sampling.max_tokens].start], "length"
        return text, "stop"


class HashingEmbedder:
    """Embeds a text as its bag of words, each word hashed to one dimension and a sign.

    Texts that share words are near each other, and nothing else is: good enough to test retrieval, and exactly the
    same on every machine. Runs of Han, Kana and other scripts without blanks count as words of one character.

    Example:
        >>> embedder = HashingEmbedder()
        >>> ship, boat, ice = asyncio.run(embedder.embed(["a ship", "the ship", "ice"]))
        >>> bool(ship @ boat > ship @ ice)
        True
    """

    languages: frozenset[str] = frozenset()

    def __init__(self, dimension: int = 256, *, max_tokens: int = 512) -> None:
        self.name = f"hashing-{dimension}"
        self.fingerprint = f"hashing-1-{dimension}"
        self.dimension = dimension
        self.max_tokens = max_tokens
        self.tokenizer = EstimatingTokenizer()

    async def embed(self, texts: Sequence[str], kind: Literal["document", "query"] = "document") -> FloatMatrix:
        """Embed texts; rows of shape (len(texts), dimension).

        Raises:
            LimitError: a document is longer than ``max_tokens``.
        """
        for index, text in enumerate(texts):
            if kind == "document" and self.tokenizer.count(text) > self.max_tokens:
                raise LimitError(f"text {index} is longer than {self.max_tokens} tokens; cut it", subject=self.name)
        rows = [self._embed_one(text) for text in texts]
        return np.stack(rows) if rows else np.zeros((0, self.dimension), dtype=np.float32)

    async def close(self) -> None:
        """Do nothing; there is nothing to free."""

    def _embed_one(self, text: str) -> FloatMatrix:
        vector = np.zeros(self.dimension, dtype=np.float32)
        for word, count in Counter(_WORD.findall(text.lower())).items():
            digest = int.from_bytes(blake3(word.encode("utf-8", "surrogatepass")).digest(8), "little")
            vector[digest % self.dimension] += (1 if digest >> 63 else -1) * count**0.5
        if not vector.any():
            vector[0] = 1  # unit rows are promised, also for texts without a word
        return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


_WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u0e00-\u0e7f]|[^\W\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u0e00-\u0e7f]+"
)


def _in_order(answers: Iterator[str | Exception]) -> Callable[[Prompt, Sampling], str]:
    def answer(prompt: Prompt, sampling: Sampling) -> str:
        item = next(answers, None)
        if item is None:
            raise UsageError("the script has no further answer; give as many as there will be calls")
        if isinstance(item, Exception):
            raise item
        return item

    return answer


__all__ = ["Call", "HashingEmbedder", "ScriptedLanguageModel"]
