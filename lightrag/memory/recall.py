"""Recall from gists: by a language model that reads them, or by choosing among their sentences.

Knows nothing of KV memories; those answer the same :class:`~lightrag.memory.base.Recaller` protocol.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import numpy as np

from lightrag.config import RecallSettings
from lightrag.documents import split_sentences
from lightrag.errors import NotFoundError
from lightrag.memory.base import Recaller, RecallRequest, Recollection
from lightrag.memory.clue_lines import distinct
from lightrag.memory.covering import cover
from lightrag.memory.gists import top_gists
from lightrag.memory.instructions import REPLY_TOKENS, check_question, instructions_for, read_clues
from lightrag.memory.prompts import PromptSet, prompts_for
from lightrag.models.base import Embedder, FloatMatrix, LanguageModel, Prompt, Sampling
from lightrag.models.reach import within_reach
from lightrag.types import Clue, CorpusVersion, Gist, Usage

# A corpus's gists are bounded by their budget, so a version's vectors take a megabyte or so.
_REMEMBERED_VERSIONS = 32


class GistedCorpus(Protocol):
    """A loaded corpus, as far as recall needs it."""

    @property
    def gists(self) -> Sequence[Gist]:
        """All levels."""
        ...

    @property
    def language(self) -> str:
        """Language of most of the corpus."""
        ...


Corpora = Callable[[CorpusVersion], AbstractAsyncContextManager[GistedCorpus]]


class PromptedRecaller:
    """Asks a language model that has the corpus's gists before it; all questions go in one batch.

    Args:
        model: any backend.
        corpora: leases a loaded corpus.
        settings: how many clues and surrogate queries to keep.
        prompts: replaces the built-in prompts for every language.
    """

    def __init__(
        self,
        model: LanguageModel,
        corpora: Corpora,
        settings: RecallSettings | None = None,
        *,
        prompts: PromptSet | None = None,
    ) -> None:
        self._model = model
        self._corpora = corpora
        self._settings = settings or RecallSettings()
        self._prompts = prompts

    async def recall(self, request: RecallRequest) -> Recollection:
        """Recall spans, surrogate queries and, where asked, a draft; see :class:`Recaller`."""
        async with self._corpora(request.corpus) as corpus:
            gists = _require_gists(corpus, request)
            language = corpus.language
        prompts = self._prompts or prompts_for(language)
        context = prompts.fill("context", context="\n\n".join(gist.text for gist in gists))
        keys = instructions_for(request)
        asked = [
            Prompt.of(f"{context}\n\n{prompts.fill(key, question=request.question)}", cache_salt=str(request.corpus))
            for key in keys
        ]
        longest = max(REPLY_TOKENS[key] for key in keys)
        replies = await self._model.complete(asked, Sampling(max_tokens=longest))
        usage = sum((reply.usage for reply in replies), Usage())
        texts = {key: reply.text for key, reply in zip(keys, replies, strict=True)}
        return Recollection(read_clues([texts], self._settings), "prompted", usage)


class GistSentenceRecaller:
    """Recalls sentences of the gists: those nearest to the question, or a set that covers the whole corpus.

    Args:
        embedder: compares sentences with the question.
        corpora: leases a loaded corpus.
        settings: ``max_clues`` applies.
    """

    def __init__(self, embedder: Embedder, corpora: Corpora, settings: RecallSettings | None = None) -> None:
        self._embedder = embedder
        self._corpora = corpora
        self._settings = settings or RecallSettings()
        self._vectors: OrderedDict[CorpusVersion, FloatMatrix] = OrderedDict()

    async def recall(self, request: RecallRequest) -> Recollection:
        """Recall without a language model; see :class:`Recaller`."""
        async with self._corpora(request.corpus) as corpus:
            gists = _require_gists(corpus, request)
        sentences = [(sentence, gist) for gist in gists for sentence in _sentences(gist.text)]
        texts = [sentence for sentence, _ in sentences]
        matrix = await self._embedded(request.corpus, texts)
        if request.question.strip():
            asked = (await self._embedder.embed([request.question], "query"))[0]
            order = np.argsort(-(matrix @ asked), kind="stable").tolist()
            scores = matrix @ asked
        else:
            order = sorted(cover(matrix, self._settings.max_clues))
            scores = np.ones(len(texts), dtype=np.float32)
        chosen = set(distinct((texts[index] for index in order), self._settings.max_clues))
        clues = tuple(
            Clue(texts[index], score=float(scores[index]), chunk_ids=sentences[index][1].chunk_ids)
            for index in order
            if texts[index] in chosen
        )
        return Recollection(clues, "extractive")

    async def _embedded(self, version: CorpusVersion, texts: Sequence[str]) -> FloatMatrix:
        """Vectors of a version's sentences; a version never changes, so those asked about last are remembered."""
        vectors = self._vectors.pop(version, None)
        if vectors is None:
            vectors = await self._embedder.embed(within_reach(self._embedder, texts))
        self._vectors[version] = vectors
        while len(self._vectors) > _REMEMBERED_VERSIONS:
            self._vectors.popitem(last=False)
        return vectors


class TaskRecaller:
    """Sends each task to the recaller made for it: questions follow links, ``qa`` and ``summarize`` read gists."""

    def __init__(self, questions: Recaller, gists: Recaller) -> None:
        self._questions = questions
        self._gists = gists

    async def recall(self, request: RecallRequest) -> Recollection:
        """Recall by task; see :class:`Recaller`."""
        recaller = self._gists if request.task in ("qa", "summarize") else self._questions
        return await recaller.recall(request)


def _require_gists(corpus: GistedCorpus, request: RecallRequest) -> list[Gist]:
    check_question(request)
    gists = top_gists(corpus.gists)
    if not gists:
        raise NotFoundError(f"{request.corpus} has no gists to recall from", subject=str(request.corpus))
    return gists


def _sentences(text: str) -> list[str]:
    return [" ".join(text[span.start : span.end].split()) for span in split_sentences(text)]


__all__ = ["Corpora", "GistSentenceRecaller", "GistedCorpus", "PromptedRecaller", "TaskRecaller"]
