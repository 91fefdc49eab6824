"""The global memory of a corpus in its first form: short accounts of everything, small enough to read in one go.

Level 0 condenses neighbouring chunks of one document; each higher level condenses gists of the level below, until the
top level fits an explicit token budget. Level 0 depends on one document alone, so unchanged documents keep theirs.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol, TypeVar

from blake3 import blake3

from lightrag.config import GistSettings
from lightrag.documents import split_sentences
from lightrag.errors import LimitError
from lightrag.memory.prompts import PromptSet, prompts_for
from lightrag.models.base import LanguageModel, Prompt, Sampling
from lightrag.retrieval.analysis import Analyzer
from lightrag.types import Chunk, Gist, Tokenizer

T = TypeVar("T")

_FULL = 8
"""Terms that make a full statement."""


class Gister(Protocol):
    """Condenses texts."""

    @property
    def method(self) -> Literal["extractive", "prompted"]:
        """Recorded with every gist."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes whenever the same text may get another gist."""
        ...

    @property
    def tokenizer(self) -> Tokenizer:
        """The corpus's tokenizer, in which bounds are counted."""
        ...

    async def condense(self, texts: Sequence[str], tokens: int, language: str) -> list[str]:
        """Condense each text to at most ``tokens`` tokens of the corpus's tokenizer.

        Raises:
            BackendError: the language model failed.
            LimitError: a text does not fit the model's window.
        """
        ...


class ExtractiveGister:
    """Condenses by choosing the sentences that carry most of what is particular to the text.

    SumBasic (Nenkova and Vanderwende 2005): a sentence weighs as much as the mean probability of its terms in the text,
    and the probability of each chosen term is squared. Here exclamations weigh less, as if they had eight terms, and
    sentences with names and figures up to twice as much.
    """

    method: Literal["extractive", "prompted"] = "extractive"
    fingerprint = "extractive-2"

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    async def condense(self, texts: Sequence[str], tokens: int, language: str) -> list[str]:
        """Choose sentences, in their order, within ``tokens``; see :class:`Gister`."""
        analyzer = Analyzer((language,))
        return [self._condense(text, tokens, analyzer) for text in texts]

    def _condense(self, text: str, tokens: int, analyzer: Analyzer) -> str:
        sentences = [" ".join(text[span.start : span.end].split()) for span in split_sentences(text)]
        sentences = list(dict.fromkeys(sentence for sentence in sentences if sentence))
        terms = [list(dict.fromkeys(analyzer.passage_terms(sentence))) for sentence in sentences]
        count = Counter(term for present in terms for term in present)
        total = sum(count.values()) or 1
        weight = {term: number / total for term, number in count.items()}
        emphasis = [1.0 + min(_particulars(sentence), 4) / 4 for sentence in sentences]
        costs = [self.tokenizer.count(sentence) for sentence in sentences]
        chosen: set[int] = set()
        room = tokens
        while True:
            options = [
                (emphasis[index] * sum(weight[term] for term in terms[index]) / max(len(terms[index]), _FULL), -index)
                for index in range(len(sentences))
                if index not in chosen and terms[index] and costs[index] <= room
            ]
            if not options:
                break
            best = -max(options)[1]
            chosen.add(best)
            room -= costs[best]
            for term in terms[best]:
                weight[term] **= 2
        if not chosen and sentences:
            # Not one sentence fits: the head of the first one is still better than nothing, and is marked as cut.
            spans = self.tokenizer.spans(sentences[0])
            return sentences[0][: spans[min(tokens, len(spans)) - 2].end] + " …" if len(spans) > 1 else sentences[0]
        return " ".join(sentences[index] for index in sorted(chosen))


class PromptedGister:
    """Condenses with a language model.

    Args:
        model: any backend; prompts are sent in one batch.
        tokenizer: the corpus's tokenizer, in which the bound is counted.
        prompts: replaces the built-in prompts for every language.
    """

    method: Literal["extractive", "prompted"] = "prompted"

    def __init__(self, model: LanguageModel, tokenizer: Tokenizer, *, prompts: PromptSet | None = None) -> None:
        self._model = model
        self._prompts = prompts
        self.tokenizer = tokenizer

    @property
    def fingerprint(self) -> str:
        """The model's name and the prompts in use."""
        asked = self._prompts.gist if self._prompts else prompts_for("en").gist + prompts_for("zh").gist
        return f"prompted-{self._model.name}-{blake3(asked.encode()).hexdigest()[:12]}"

    async def condense(self, texts: Sequence[str], tokens: int, language: str) -> list[str]:
        """Ask for a gist of each text; longer ones than asked are cut at the last sentence that fits."""
        prompts = self._prompts or prompts_for(language)
        asked = [Prompt.of(prompts.fill("gist", context=text)) for text in texts]
        completions = await self._model.complete(asked, Sampling(max_tokens=tokens * 2))
        return [bounded(completion.text.strip(), tokens, self.tokenizer) for completion in completions]


async def document_gists(chunks: Sequence[Chunk], gister: Gister, settings: GistSettings) -> list[Gist]:
    """Condense one document's chunks into gists of level 0, in order.

    Args:
        chunks: all chunks of one document, in order; may be empty.
        gister: how to condense.
        settings: ``chunks_per_gist`` and ``tokens_per_gist`` apply.
    """
    return (await documents_gists([chunks], gister, settings))[0]


async def documents_gists(
    documents: Sequence[Sequence[Chunk]], gister: Gister, settings: GistSettings
) -> list[list[Gist]]:
    """Condense several documents as :func:`document_gists` does, those of one language together in one call."""
    runs = [
        (number, group)
        for number, chunks in enumerate(documents)
        if chunks
        for group in _groups(chunks, settings.chunks_per_gist)
    ]
    texts: dict[int, str] = {}
    for language in dict.fromkeys(documents[number][0].language for number, _ in runs):
        places = [place for place, (number, _) in enumerate(runs) if documents[number][0].language == language]
        asked = ["\n".join(chunk.text for chunk in runs[place][1]) for place in places]
        condensed = await gister.condense(asked, settings.tokens_per_gist, language)
        texts.update(zip(places, condensed, strict=True))
    gists: list[list[Gist]] = [[] for _ in documents]
    for place, (number, group) in enumerate(runs):
        if texts[place]:
            chunk_ids = tuple(chunk.chunk_id for chunk in group)
            gists[number].append(_gist(texts[place], chunk_ids, group[0].document_id, gister))
    return gists


async def corpus_gists(
    level0: Sequence[Gist],
    gister: Gister,
    settings: GistSettings,
    language: str,
    *,
    known: Mapping[str, Gist] | None = None,
) -> list[Gist]:
    """Build the levels above, until the top one fits ``budget_tokens``. Returns the new gists, lowest level first.

    Args:
        level0: gists of all documents, in order.
        gister: how to condense.
        settings: bounds, and how many gists are condensed into one at most.
        language: of most of them.
        known: gists above level 0 that were made before, by their ids: what covers the same gists is not made again.

    Raises:
        LimitError: even one gist is longer than the budget.
    """
    if settings.tokens_per_gist > settings.budget_tokens:
        raise LimitError(
            f"gists.tokens_per_gist is {settings.tokens_per_gist}, more than the whole budget of "
            f"{settings.budget_tokens} tokens (gists.budget_tokens)"
        )
    added: list[Gist] = []
    current = _numbered(level0)
    while len(current) > 1 and sum(node.gist.tokens for node in current) > settings.budget_tokens:
        groups = list(_lasting_groups(current, settings.chunks_per_gist))
        level = current[0].gist.level + 1
        identities = [_upper_identity(level, group, gister, settings, language) for group in groups]
        made = {identity: known[identity] for identity in identities if identity in known} if known else {}
        missing = [place for place, identity in enumerate(identities) if identity not in made]
        texts = ["\n".join(node.gist.text for node in groups[place]) for place in missing]
        condensed = await gister.condense(texts, settings.tokens_per_gist, language) if texts else []
        for place, text in zip(missing, condensed, strict=True):
            made[identities[place]] = _above(identities[place], text, level, groups[place], gister)
        current = [_Node(made[identity], group[0].anchor) for identity, group in zip(identities, groups, strict=True)]
        added.extend(node.gist for node in current)
    return added


class _Node(NamedTuple):
    """A gist, and a name of its place that outlasts changes of its text."""

    gist: Gist
    anchor: str


def _numbered(level0: Sequence[Gist]) -> list[_Node]:
    """Gists of documents, each with its number inside its document."""
    seen: Counter[str] = Counter()
    nodes = []
    for gist in level0:
        nodes.append(_Node(gist, f"{gist.document_id}\x1f{seen[gist.document_id]}"))
        seen[gist.document_id] += 1
    return nodes


def _lasting_groups(nodes: Sequence[_Node], size: int) -> Iterator[Sequence[_Node]]:
    """Cut into groups of at most ``size`` where the names of places say, not where a count does.

    So one document more or less changes the groups around it, and leaves those behind it as they were.
    """
    least = max(2, size // 2)
    begin = 0
    for place, node in enumerate(nodes):
        length = place + 1 - begin
        if length == size or (length >= least and blake3(node.anchor.encode()).digest(1)[0] % least == 0):
            yield nodes[begin : place + 1]
            begin = place + 1
    if begin < len(nodes):
        yield nodes[begin:]


def _upper_identity(level: int, group: Sequence[_Node], gister: Gister, settings: GistSettings, language: str) -> str:
    """Of the gist over others: it says from what, and how, its text is made."""
    members = (f"{node.gist.gist_id}:{node.gist.tokens}" for node in group)
    return _identity(level, gister.fingerprint, settings.tokens_per_gist, language, *members)


def _above(identity: str, text: str, level: int, group: Sequence[_Node], gister: Gister) -> Gist:
    documents = {node.gist.document_id for node in group}
    return Gist(
        identity,
        text,
        level,
        tuple(dict.fromkeys(chunk_id for node in group for chunk_id in node.gist.chunk_ids)),
        documents.pop() if len(documents) == 1 else "",
        gister.tokenizer.count(text),
        gister.method,
    )


def top_gists(gists: Sequence[Gist]) -> list[Gist]:
    """The gists of the highest level: together they stand for the whole corpus within its budget."""
    highest = max((gist.level for gist in gists), default=0)
    return [gist for gist in gists if gist.level == highest]


def _gist(text: str, chunk_ids: tuple[str, ...], document_id: str, gister: Gister) -> Gist:
    identity = _identity(0, gister.fingerprint, text, *chunk_ids)
    return Gist(identity, text, 0, chunk_ids, document_id, gister.tokenizer.count(text), gister.method)


def _identity(*parts: object) -> str:
    return blake3("\x1f".join(map(str, parts)).encode()).hexdigest()[:32]


def _groups(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Cut into groups of nearly equal size, none larger than ``size``."""
    count = math.ceil(len(items) / size)
    for index in range(count):
        yield items[index * len(items) // count : (index + 1) * len(items) // count]


def _particulars(sentence: str) -> int:
    """Names and figures: words with a digit, or with a capital inside the sentence."""
    words = sentence.split()
    return sum(
        any(letter.isdigit() for letter in word) or (position > 0 and word[:1].isupper())
        for position, word in enumerate(words)
    )


def bounded(text: str, tokens: int, tokenizer: Tokenizer) -> str:
    """The text, or as many of its first sentences as have at most ``tokens`` tokens; a cut sentence is marked."""
    spans = tokenizer.spans(text)
    if len(spans) <= tokens:
        return text
    end = spans[tokens - 2].end if tokens > 2 else spans[0].end
    whole = [span.end for span in split_sentences(text) if span.end <= end]
    return text[: whole[-1]].rstrip() if whole else text[:end] + " …"


__all__ = [
    "ExtractiveGister",
    "Gister",
    "PromptedGister",
    "bounded",
    "corpus_gists",
    "document_gists",
    "documents_gists",
    "top_gists",
]
