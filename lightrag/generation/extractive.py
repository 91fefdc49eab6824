"""Answers without a language model: the sentences of the evidence that answer best, quoted and cited.

A lookup is answered with the best sentence or two, a question for all, how many or the extreme of something with every
matching place in document order, an overview with a set of sentences that covers the evidence. Nothing is rephrased.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import numpy as np

from lightrag.documents import split_sentences
from lightrag.generation.base import GenerationDelta, GenerationRequest
from lightrag.generation.figures import extreme_figure
from lightrag.generation.questions import QuestionForm, question_form
from lightrag.memory.covering import cover
from lightrag.models.base import Embedder, FloatMatrix
from lightrag.models.reach import within_reach
from lightrag.retrieval.analysis import Analyzer
from lightrag.types import Chunk, Evidence

NOTHING_FOUND = "Nothing in this corpus matches the question."
_UNCOMPRESSED = "extractive answers quote the evidence as it is: compression was not applied to the quotes"
_UNHEARD = "extractive answers quote what was searched for: the conversation itself was not read"
_LOOKUP_SENTENCES = 2
_LIST_SENTENCES = 12
_OVERVIEW_SENTENCES = 10
# Share of the best score that a further sentence must reach to be quoted beside it.
_LOOKUP_MARGIN = 0.92
_LIST_MARGIN = 0.72
# How a sentence's score is made up: meaning, shared words, rank of its passage, and the kind of thing asked for.
_WEIGHT_MEANING, _WEIGHT_WORDS, _WEIGHT_RANK, _WEIGHT_KIND = 0.55, 0.25, 0.12, 0.08
_UNTOLD = 0.6
"""Factor on the score of lines that only name something."""
_ENDS = (".", "!", "?", "。", "！", "？", "।", "؟", "…", ":")
_REDUNDANT = 0.88
"""Cosine above which two sentences are taken to say the same."""


@dataclass(frozen=True, slots=True)
class _Sentence:
    text: str
    source: int
    """Index of its passage in the evidence; its citation is one more."""
    chunk_id: str
    language: str
    place: tuple[str, int, int]
    """(document, passage, first character), for document order."""


class ExtractiveAnswerer:
    """Quotes the evidence.

    Args:
        embedder: compares sentences with the question.
        max_sentences_read: sentences compared by meaning; the best by shared words are taken where there are more.
    """

    def __init__(self, embedder: Embedder, *, max_sentences_read: int = 64) -> None:
        self._embedder = embedder
        self._max_sentences_read = max_sentences_read

    async def answer(self, request: GenerationRequest) -> AsyncIterator[GenerationDelta]:
        """Quote the sentences that answer; see :class:`lightrag.generation.base.Answerer`."""
        sentences = _sentences(request)
        if not sentences:
            yield GenerationDelta(NOTHING_FOUND, done=True)
            return
        form = QuestionForm("overview", "anything") if request.task == "summarize" else question_form(request.question)
        words = _word_scores(request, sentences)
        if len(sentences) > self._max_sentences_read:
            # Stable order of equal scores keeps the sentences of the best passages.
            keep = sorted(np.argsort(-words, kind="stable")[: self._max_sentences_read].tolist())
            sentences, words = [sentences[index] for index in keep], words[keep]
        vectors = await self._embedder.embed(within_reach(self._embedder, [sentence.text for sentence in sentences]))
        queries = [request.searched] if request.searched.strip() else [clue.text for clue in request.clues]
        asked = await self._embedder.embed(queries, "query") if queries else vectors.mean(axis=0, keepdims=True)
        scores = self._scores(request, form, sentences, words, vectors, asked)
        chosen = (
            _cover(sentences, vectors, scores, asked)
            if form.form == "overview"
            else _choose(form, sentences, vectors, scores)
        )
        lines = _write(form, request, [sentences[index] for index in chosen])
        for position, line in enumerate(lines):
            yield GenerationDelta(line if position == 0 else "\n" + line)
        cited = tuple(dict.fromkeys(sentences[index].chunk_id for index in chosen))
        notes = (_UNCOMPRESSED,) if request.context is not None else ()
        if request.history:
            notes = (*notes, _UNHEARD)
        yield GenerationDelta("", done=True, kind="extractive", cited=cited, notes=notes)

    def _scores(
        self,
        request: GenerationRequest,
        form: QuestionForm,
        sentences: Sequence[_Sentence],
        words: FloatMatrix,
        vectors: FloatMatrix,
        asked: FloatMatrix,
    ) -> FloatMatrix:
        meaning = np.clip((vectors @ asked.T).max(axis=1), 0.0, 1.0)
        rank = np.array([1.0 / (1 + 0.25 * _rank(request.evidence, sentence)) for sentence in sentences])
        kind = np.array([form.suits(sentence.text) for sentence in sentences], dtype=np.float32)
        total = _WEIGHT_MEANING * meaning + _WEIGHT_WORDS * words + _WEIGHT_RANK * rank + _WEIGHT_KIND * kind
        told = np.array([1.0 if _tells(sentence.text) else _UNTOLD for sentence in sentences])
        return (total * told).astype(np.float32)


def _word_scores(request: GenerationRequest, sentences: Sequence[_Sentence]) -> FloatMatrix:
    """Share of the question's terms that each sentence holds, rare terms counting more. Shape (sentences,)."""
    analyzer = Analyzer(item.chunk.language for item in request.evidence)
    wanted = set(analyzer.query_terms(request.searched))
    held = [wanted.intersection(analyzer.passage_terms(sentence.text, sentence.language)) for sentence in sentences]
    frequency = Counter(term for terms in held for term in terms)
    # Stop words and terms that no passage has cannot tell the sentences apart.
    weight = {term: math.log(1 + len(sentences) / (0.5 + number)) for term, number in frequency.items()}
    total = sum(weight.values()) or 1.0
    return np.array([sum(weight[term] for term in terms) / total for terms in held], dtype=np.float32)


def _rank(evidence: Sequence[Evidence], sentence: _Sentence) -> int:
    if sentence.source >= len(evidence):
        return 0
    score = evidence[sentence.source].score
    return sum(item.score > score for item in evidence)


def _sentences(request: GenerationRequest) -> list[_Sentence]:
    """Cut the evidence into distinct sentences; without evidence, the clues of the memory are quoted."""
    found: list[_Sentence] = []
    seen: set[str] = set()
    passages = [item.chunk for item in request.evidence] or [
        Chunk(next(iter(clue.chunk_ids), ""), "", index, clue.text, 0, len(clue.text), tokens=0)
        for index, clue in enumerate(request.clues)
    ]
    for source, chunk in enumerate(passages):
        headings = {chunk.title, *chunk.heading.split(" › ")}
        for span in split_sentences(chunk.text):
            quote = " ".join(chunk.text[span.start : span.end].split())
            key = re.sub(r"\W+", "", quote).casefold()
            if len(key) < 3 or key in seen or quote in headings:
                continue
            seen.add(key)
            place = (chunk.document_id, chunk.ordinal, span.start)
            found.append(_Sentence(quote, source, chunk.chunk_id, chunk.language, place))
    return found


def _choose(form: QuestionForm, sentences: Sequence[_Sentence], vectors: FloatMatrix, scores: FloatMatrix) -> list[int]:
    """The best sentence and those nearly as good; beside a fitting one, a lookup takes only fitting ones."""
    limit, margin = (_LOOKUP_SENTENCES, _LOOKUP_MARGIN) if form.form == "lookup" else (_LIST_SENTENCES, _LIST_MARGIN)
    order = np.argsort(-scores, kind="stable").tolist()
    chosen: list[int] = order[:1]
    for index in order[1:]:
        if len(chosen) == limit or scores[index] < margin * scores[order[0]]:
            break
        if form.form == "lookup":
            fits = form.suits(sentences[index].text) or not form.suits(sentences[order[0]].text)
            if not fits or float((vectors[chosen] @ vectors[index]).max()) > _REDUNDANT:
                continue
        chosen.append(index)
    return chosen


def _cover(sentences: Sequence[_Sentence], vectors: FloatMatrix, scores: FloatMatrix, asked: FloatMatrix) -> list[int]:
    """Sentences that stand for all: first the best for each point asked, then what is left uncovered."""
    substance = np.array([_substance(sentence.text) for sentence in sentences], dtype=np.float32)
    points = np.argmax(vectors @ asked.T * substance[:, None], axis=0).tolist() if len(asked) > 1 else []
    least = 0.05 * len(scores) / _OVERVIEW_SENTENCES
    return cover(
        vectors,
        _OVERVIEW_SENTENCES,
        weights=((0.5 + scores) * substance).astype(np.float32),
        chosen=list(dict.fromkeys(points))[:_OVERVIEW_SENTENCES],
        least_gain=least,
    )


def _tells(text: str) -> bool:
    """Whether a line says something, as headings and labels do not: it ends a sentence, is long, or holds a figure."""
    return text.rstrip("\"'”’»)] ").endswith(_ENDS) or len(text) > 60 or any(letter.isdigit() for letter in text)


def _substance(text: str) -> float:
    """How much a sentence says by itself, 0 to 1: questions, exclamations and fragments say little."""
    full = min(len(text) / 80, 1.0)
    return full * (0.3 if text.rstrip("\"'”’» ").endswith(("?", "!", "？", "！", ":")) else 1.0)


def _write(form: QuestionForm, request: GenerationRequest, chosen: list[_Sentence]) -> list[str]:
    """Lay the quotes out as the form of the question asks; citations count the evidence from 1."""
    cite = [f"{sentence.text} [{sentence.source + 1}]" for sentence in chosen]
    if form.form == "lookup" or (len(chosen) == 1 and form.form != "overview"):
        return cite
    order = sorted(range(len(chosen)), key=lambda index: chosen[index].place)
    places = [f"- {cite[index]}" for index in order]
    if form.form == "overview":
        return places
    head = f"{len(chosen)} matching places:"
    if form.form == "highest" or form.form == "lowest":
        extreme = extreme_figure([sentence.text for sentence in chosen], form.form, request.question)
        if extreme:
            figure, compared = extreme
            source = chosen[figure.place].source + 1
            head = f"{form.form.capitalize()} figure of {compared} compared: {figure.text} [{source}]. {head}"
    return [head, *places]


__all__ = ["NOTHING_FOUND", "ExtractiveAnswerer"]
