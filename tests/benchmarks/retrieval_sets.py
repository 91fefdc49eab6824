"""The reference sets beside the project as corpora with questions; nothing of them is copied or shipped.

Each set is halved: settings were chosen on the one half (questions with even numbers; of sets with several corpora,
those with even numbers), and only the other half is reported.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Half = Literal["reported", "tuned", "all"]


@dataclass(frozen=True)
class Passage:
    """What can be found."""

    passage_id: str
    text: str
    title: str = ""
    section: str = ""
    """Passages of one section are neighbours; empty: the passage stands alone."""
    speaker: str = ""


@dataclass(frozen=True)
class Question:
    """What is asked, and the grade of each relevant passage."""

    text: str
    relevant: dict[str, int]
    kind: str = ""


@dataclass(frozen=True)
class Corpus:
    """Passages that are searched together."""

    name: str
    passages: list[Passage]
    questions: list[Question]
    language: str = "en"


@dataclass(frozen=True)
class ReferenceSet:
    """Corpora of one kind, and how results are measured on them."""

    name: str
    load: Callable[[Path], list[Corpus]]
    measures: tuple[str, ...]
    """``ndcg@k``, ``hit@k`` (some relevant passage), ``recall@k`` (share), ``multihop@k``, ``words@t``, ``turns@t``
    (share of relevant words or turns within ``t`` tokens)."""
    floors: dict[str, dict[str, float]] = field(default_factory=dict)
    """Published for stock components, by method and measure."""
    targets: dict[str, float] = field(default_factory=dict)
    """What hybrid with clues must reach."""

    def corpora(self, data: Path, half: Half) -> list[Corpus]:
        """Load the set and keep the wanted half of its questions; corpora without any are dropped."""
        wanted = {"reported": {1}, "tuned": {0}, "all": {0, 1}}[half]
        loaded = self.load(data)
        if len(loaded) > 1:
            return [corpus for number, corpus in enumerate(loaded) if number % 2 in wanted]
        return [
            Corpus(
                corpus.name,
                corpus.passages,
                [question for number, question in enumerate(corpus.questions) if number % 2 in wanted],
                corpus.language,
            )
            for corpus in loaded
        ]


def load_cranfield(data: Path) -> list[Corpus]:
    """1,400 abstracts, graded judgements."""
    folder = data / "cranfield"
    passages = []
    for body in re.findall(r"<doc>(.*?)</doc>", _read(folder / "cran.all.1400.xml"), re.DOTALL):
        part = {tag: " ".join(text.split()) for tag, text in re.findall(r"<(\w+)>(.*?)</\1>", body, re.DOTALL)}
        passages.append(Passage(part["docno"], part.get("text") or part["title"], part["title"]))
    texts = re.findall(r"<num>.*?</num>\s*<title>(.*?)</title>", _read(folder / "cran.qry.xml"), re.DOTALL)
    grades: dict[int, dict[str, int]] = {}
    for line in _read(folder / "cranqrel.trec.txt").splitlines():
        number, _, passage_id, grade = line.split()
        if int(grade) > 0:
            grades.setdefault(int(number), {})[passage_id] = int(grade)
    questions = [Question(" ".join(text.split()), grades.get(number, {})) for number, text in enumerate(texts, 1)]
    return [Corpus("cranfield", passages, questions)]


def load_nq(data: Path) -> list[Corpus]:
    """Questions with their gold passages of Wikipedia, all passages together as the corpus."""
    with gzip.open(data / "nq_open" / "nq-open-oracle.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    known: dict[tuple[str, str], Passage] = {}
    questions = []
    for row in rows:
        relevant = {}
        for found in row["ctxs"]:
            key = (found["title"], found["text"])
            passage = known.setdefault(key, Passage(str(len(known)), found["text"], found["title"]))
            if found["isgold"]:
                relevant[passage.passage_id] = 1
        questions.append(Question(row["question"], relevant))
    return [Corpus("nq_open", list(known.values()), questions)]


def load_hotpotqa(data: Path) -> list[Corpus]:
    """Multi-hop questions, each with two supporting passages."""
    corpus = _json(data / "hotpotqa" / "corpus.json")
    passages = [
        Passage(title, ("".join(body) if isinstance(body, list) else str(body)).strip(), title)
        for title, body in corpus.items()
    ]
    questions = [
        Question(row["question"], {title: 1 for title, _ in row["supporting_facts"]}, row["type"])
        for row in _json(data / "hotpotqa" / "questions.json")
    ]
    return [Corpus("hotpotqa", passages, questions)]


def load_qmsum(data: Path) -> list[Corpus]:
    """Meetings, one corpus each; a question's relevant turns are spans of the transcript."""
    corpora = []
    for number, line in enumerate(_read(data / "qmsum" / "val.jsonl").splitlines()):
        meeting = json.loads(line)
        passages = [
            Passage(str(place), turn["content"], section="meeting", speaker=turn["speaker"])
            for place, turn in enumerate(meeting["meeting_transcripts"])
        ]
        questions = [
            Question(
                row["query"],
                {str(turn): 1 for a, b in row["relevant_text_span"] for turn in range(int(a), int(b) + 1)},
            )
            for row in meeting["specific_query_list"]
        ]
        corpora.append(Corpus(f"meeting {number}", passages, questions))
    return corpora


def conversations(folder: str) -> Callable[[Path], list[Corpus]]:
    """Loader of chats over many sessions, with the turns that hold the evidence for each question."""
    return lambda data: [_conversation(path) for path in sorted((data / folder).glob("*.json"))]


def xquad(language: str) -> Callable[[Path], list[Corpus]]:
    """Loader of paragraphs with questions in one language."""

    def load(data: Path) -> list[Corpus]:
        passages, questions = [], []
        for document in _json(data / "xquad" / f"xquad.{language}.json")["data"]:
            for paragraph in document["paragraphs"]:
                passage = Passage(str(len(passages)), paragraph["context"])
                passages.append(passage)
                questions += [Question(qa["question"], {passage.passage_id: 1}) for qa in paragraph["qas"]]
        return [Corpus(f"xquad {language}", passages, questions, language)]

    return load


def _conversation(path: Path) -> Corpus:
    chat = _json(path)
    passages = [
        Passage(turn["dia_id"], _said(turn), section=session, speaker=turn["speaker"])
        for session in sorted((name for name in chat if re.fullmatch(r"session_\d+", name)), key=_number)
        for turn in chat[session]
    ]
    known = {passage.passage_id for passage in passages}
    questions = []
    for row in chat["qa"]:
        named = {turn for text in row.get("evidence", []) for turn in re.findall(r"D\d+:\d+", str(text))}
        if named & known:
            relevant = dict.fromkeys(named & known, 1)
            questions.append(Question(row["question"], relevant, "multihop" if row["category"] == 1 else ""))
    return Corpus(path.stem, passages, questions)


def _said(turn: dict[str, Any]) -> str:
    text = turn.get("text") or turn.get("clean_text") or ""
    return f"{text} [image: {turn['blip_caption']}]" if turn.get("blip_caption") else text


def _number(session: str) -> int:
    return int(session.removeprefix("session_"))


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _json(path: Path) -> Any:
    return json.loads(_read(path))


def reference_sets() -> Iterator[ReferenceSet]:
    """Every set, with the figures published for stock components (the same encoder, bm25s, sum of scaled scores)."""
    yield ReferenceSet(
        "cranfield",
        load_cranfield,
        ("ndcg@10",),
        {"dense": {"ndcg@10": 0.400}, "bm25": {"ndcg@10": 0.388}, "hybrid": {"ndcg@10": 0.436}},
    )
    yield ReferenceSet(
        "nq_open",
        load_nq,
        ("hit@1", "hit@5"),
        {
            "dense": {"hit@1": 0.935, "hit@5": 0.997},
            "bm25": {"hit@1": 0.847, "hit@5": 0.956},
            "hybrid": {"hit@1": 0.913, "hit@5": 0.988},
        },
    )
    yield ReferenceSet(
        "hotpotqa",
        load_hotpotqa,
        ("recall@2", "recall@5"),
        {
            "dense": {"recall@2": 0.625, "recall@5": 0.785},
            "bm25": {"recall@2": 0.595, "recall@5": 0.775},
            "hybrid": {"recall@2": 0.650, "recall@5": 0.820},
            "clues": {"recall@2": 0.760, "recall@5": 0.910},
        },
        {"recall@2": 0.77, "recall@5": 0.94},
    )
    yield ReferenceSet(
        "qmsum",
        load_qmsum,
        ("words@1500",),
        {
            "dense": {"words@1500": 0.312},
            "bm25": {"words@1500": 0.288},
            "hybrid": {"words@1500": 0.321},
            "clues": {"words@1500": 0.415},
        },
        {"words@1500": 0.45},
    )
    yield ReferenceSet(
        "locomo",
        conversations("locomo"),
        ("recall@10", "multihop@10", "turns@600"),
        {
            "dense": {"recall@10": 0.512, "multihop@10": 0.293, "turns@600": 0.588},
            "bm25": {"recall@10": 0.565, "multihop@10": 0.281, "turns@600": 0.615},
            "hybrid": {"recall@10": 0.639, "multihop@10": 0.393, "turns@600": 0.695},
            "clues": {"recall@10": 0.728, "multihop@10": 0.427, "turns@600": 0.768},
        },
        {"recall@10": 0.75, "multihop@10": 0.47, "turns@600": 0.80},
    )
    yield ReferenceSet(
        "realtalk",
        conversations("realtalk"),
        ("recall@10", "multihop@10", "turns@600"),
        {
            "dense": {"recall@10": 0.389, "multihop@10": 0.234, "turns@600": 0.501},
            "bm25": {"recall@10": 0.496, "multihop@10": 0.261, "turns@600": 0.532},
            "hybrid": {"recall@10": 0.523, "multihop@10": 0.296, "turns@600": 0.581},
            "clues": {"recall@10": 0.555, "multihop@10": 0.319, "turns@600": 0.592},
        },
        {"multihop@10": 0.38, "turns@600": 0.65},
    )
    known = {"en": 0.929, "es": 0.897, "zh": 0.928}
    for language in ("en", "es", "zh", "ar", "th"):
        floors = {"bm25": {"hit@1": known[language]}} if language in known else {}
        yield ReferenceSet(f"xquad_{language}", xquad(language), ("hit@1",), floors)


__all__ = ["Corpus", "Half", "Passage", "Question", "ReferenceSet", "reference_sets"]
