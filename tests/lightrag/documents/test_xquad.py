"""Every paragraph of XQuAD in five languages: parsed and chunked exactly, every answer where it was."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lightrag.documents import Chunker, normalise, parse_document, split_sentences
from tests.lightrag.documents.tokenizers_for_tests import MiniLMTokenizer


def paragraphs(path: Path) -> Iterator[tuple[str, list[dict[str, object]]]]:
    for article in json.loads(path.read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            answers = [answer for question in paragraph["qas"] for answer in question["answers"]]
            yield paragraph["context"], answers


@pytest.mark.parametrize("language", ["en", "es", "ar", "zh", "th"])
def test_every_answer_is_found_at_its_offset_in_one_or_more_chunks(
    language: str, shared: Callable[[str], Path], minilm: MiniLMTokenizer
) -> None:
    chunker = Chunker(minilm, 96)
    count = 0
    for number, (context, answers) in enumerate(paragraphs(shared(f"data/xquad/xquad.{language}.json"))):
        document = parse_document(context.encode(), source=f"{language}/{number}.txt")
        assert document.text == normalise(context)
        chunks = chunker.chunks(document)
        assert all(document.text[chunk.start : chunk.end] == chunk.text for chunk in chunks)
        assert "".join("".join(chunk.text for chunk in chunks).split()) == "".join(document.text.split())
        sentences = split_sentences(document.text)
        assert "".join("".join(document.text[s.start : s.end] for s in sentences).split()) == "".join(
            document.text.split()
        )
        for answer in answers:
            start = len(normalise(context[: answer["answer_start"]]))  # type: ignore[index]
            text = normalise(str(answer["text"]))
            assert document.text[start : start + len(text)] == text
            covered = "".join(
                document.text[max(start, chunk.start) : min(start + len(text), chunk.end)]
                for chunk in chunks
                if chunk.start < start + len(text) and chunk.end > start
            )
            assert "".join(covered.split()) == "".join(text.split())
            count += 1
    assert count == 1190


@pytest.mark.parametrize("language", ["en", "es", "ar", "zh", "th"])
def test_the_language_of_every_paragraph_is_told(language: str, shared: Callable[[str], Path]) -> None:
    contexts = [context for context, _ in paragraphs(shared(f"data/xquad/xquad.{language}.json"))]
    told = [parse_document(context.encode(), source="a.txt").language for context in contexts]
    assert told.count(language) >= len(contexts) - 1
