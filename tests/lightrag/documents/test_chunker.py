import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.documents import Chunker, parse_document
from lightrag.errors import UsageError
from lightrag.types import Chunk, Document, Section, Tokenizer
from tests.lightrag.documents.tokenizers_for_tests import GreedyTokenizer, MiniLMTokenizer

MAX_TOKENS = 32


def document(text: str, sections: tuple[Section, ...] = (), document_id: str = "d") -> Document:
    return Document(document_id, "d.txt", "D", text, "hash", sections=sections)


def check(parsed: Document, chunks: list[Chunk], tokenizer: Tokenizer, max_tokens: int) -> None:
    """Prove what is promised of every chunking."""
    text = parsed.text
    assert [chunk.ordinal for chunk in chunks] == list(range(len(chunks)))
    assert all(chunk.text == text[chunk.start : chunk.end] for chunk in chunks)
    assert all(tokenizer.count(chunk.text) == chunk.tokens <= max_tokens for chunk in chunks)
    assert all(chunk.text == chunk.text.strip() != "" for chunk in chunks)
    assert all(one.end <= other.start for one, other in pairwise(chunks))
    assert "".join("".join(chunk.text for chunk in chunks).split()) == "".join(text.split())
    assert len({chunk.chunk_id for chunk in chunks}) == len(chunks)


LETTERS = "aA1 ..,!?。、」\"'()\n\n\t-|\r ก็े́👍🏽‍👩‍👧🇩🇪 \u200b\ufeffあ市نـَé"


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(alphabet=st.sampled_from(LETTERS), max_size=60), max_size=40), st.data())
def test_chunks_lose_nothing_and_keep_the_bound(pieces: list[str], data: st.DataObject) -> None:
    text = "".join(pieces)
    cuts = sorted(data.draw(st.sets(st.integers(0, max(len(text) - 1, 0)), max_size=4))) if text else []
    levels = [data.draw(st.integers(1, 3)) for _ in cuts]
    sections = tuple(
        Section("heading", text[cut : cut + 5], cut, len(text), level) for cut, level in zip(cuts, levels, strict=True)
    )
    parsed = document(text, sections)
    for tokenizer in (MINILM, GreedyTokenizer()):
        check(parsed, Chunker(tokenizer, 16).chunks(parsed), tokenizer, 16)


MINILM = MiniLMTokenizer()


@pytest.mark.parametrize(
    "unit", ["a", "word ", "字", "👨‍👩‍👧‍👦", " ", "x\n\n", "a. ", "e\u0301", "ก", "| a | b |\n", "\u0301", "!"]
)
def test_degenerate_texts_of_a_megabyte_take_seconds(unit: str) -> None:
    parsed = document(unit * (500_000 // len(unit)))
    began = time.process_time()
    chunks = Chunker(MINILM, 200).chunks(parsed)
    assert time.process_time() - began < 60
    check(parsed, chunks, MINILM, 200)


def test_a_bound_holds_where_tokens_depend_on_what_is_around_them() -> None:
    tokenizer = GreedyTokenizer()
    parsed = document("Help! Now! " * 2_000)
    chunks = Chunker(tokenizer, MAX_TOKENS).chunks(parsed)
    check(parsed, chunks, tokenizer, MAX_TOKENS)


def test_small_paragraphs_are_merged_and_headings_never_straddled(minilm: MiniLMTokenizer) -> None:
    markdown = "# One\n\nFirst.\n\nSecond.\n\nThird.\n\n# Two\n\nFourth.\n\n## Deep\n\nFifth.\n"
    parsed = parse_document(markdown.encode(), source="a.md")
    chunks = Chunker(minilm, 200).chunks(parsed)
    assert [(chunk.text, chunk.heading) for chunk in chunks] == [
        ("One\n\nFirst.\n\nSecond.\n\nThird.", "One"),
        ("Two\n\nFourth.", "Two"),
        ("Deep\n\nFifth.", "Two › Deep"),
    ]


def test_a_heading_without_text_stays_with_the_ones_below_it(minilm: MiniLMTokenizer) -> None:
    parsed = parse_document(b"# Part\n\n## Chapter\n\n### Section\n\nText.\n\n# End\n", source="a.md")
    chunks = Chunker(minilm, 200).chunks(parsed)
    assert [chunk.text for chunk in chunks] == ["Part\n\nChapter\n\nSection\n\nText.", "End"]
    assert chunks[0].heading == "Part › Chapter › Section"


def test_a_heading_is_not_cut_from_its_first_sentence(minilm: MiniLMTokenizer) -> None:
    sentence = " ".join(["wool"] * 28) + "."
    parsed = parse_document(f"# Shearing in May\n\n{sentence} {sentence}".encode(), source="a.md")
    first = Chunker(minilm, MAX_TOKENS).chunks(parsed)[0]
    assert first.text.startswith("Shearing in May\n\nwool")


def test_cuts_prefer_paragraphs_to_sentences_and_sentences_to_words(minilm: MiniLMTokenizer) -> None:
    text = "Sheep eat grass all day. They sleep at night.\n\nWolves hunt them. Dogs guard them. Men count them at dawn."
    chunks = Chunker(minilm, 20).chunks(document(text))
    assert chunks[0].text == "Sheep eat grass all day. They sleep at night."
    for chunk in Chunker(minilm, 16).chunks(document("sheep " * 8 + "went home. " + "Dogs " * 12 + "slept.")):
        assert chunk.text.endswith(".")


def test_list_items_and_table_rows_stay_whole(minilm: MiniLMTokenizer) -> None:
    rows = [f"mill {number} | {number * 137} | sold in spring. Bought in fall" for number in range(40)]
    parsed = document("\n".join(rows))
    for chunk in Chunker(minilm, 64).chunks(parsed):
        assert set(chunk.text.split("\n")) <= set(rows)


def test_the_last_two_chunks_of_a_part_are_balanced(minilm: MiniLMTokenizer) -> None:
    chunks = Chunker(minilm, 100).chunks(document(" ".join(f"Sentence {number} ends." for number in range(30))))
    assert len(chunks) == 2
    assert abs(chunks[0].tokens - chunks[1].tokens) < 20


def test_emoji_and_accents_are_not_torn(minilm: MiniLMTokenizer) -> None:
    family, flag, letter = "👨‍👩‍👧‍👦", "🇩🇪", "q\u0307\u0323"
    for unit in (family, flag, letter):
        for chunk in Chunker(minilm, 16).chunks(document(unit * 3_000)):
            assert chunk.text.replace(unit, "") == ""


def test_pages_are_named_and_a_sentence_across_them_is_kept_whole(minilm: MiniLMTokenizer) -> None:
    first, second = "Wool was sold. The second mill was\n", "opened in May. It burnt down."
    sections = (Section("page", "iv", 0, len(first)), Section("page", "5", len(first), len(first + second)))
    chunks = Chunker(minilm, 100).chunks(document(first + second, sections))
    assert [(chunk.text, chunk.page) for chunk in chunks] == [
        ("Wool was sold. The second mill was\nopened in May.", "iv–5"),
        ("It burnt down.", "5"),
    ]


def test_ids_are_stable_and_tell_place_document_and_content_apart(minilm: MiniLMTokenizer) -> None:
    chunker = Chunker(minilm, 16)
    text = "Sheep eat grass. " * 20
    ids = [chunk.chunk_id for chunk in chunker.chunks(document(text))]
    assert ids == [chunk.chunk_id for chunk in Chunker(minilm, 16).chunks(document(text))]
    assert not set(ids) & {chunk.chunk_id for chunk in chunker.chunks(document(text, document_id="e"))}
    longer = [chunk.chunk_id for chunk in chunker.chunks(document(text + "More. " * 40))]
    assert longer[: len(ids) - 2] == ids[:-2]


def test_the_last_words_of_a_document_are_in_its_last_chunk(minilm: MiniLMTokenizer) -> None:
    for words in range(1, 200):
        chunks = Chunker(minilm, 16).chunks(document(" ".join(["sheep"] * words) + " END"))
        assert chunks[-1].text.endswith("END")


def test_blank_documents_have_no_chunks_and_tiny_bounds_are_refused(minilm: MiniLMTokenizer) -> None:
    assert Chunker(minilm, 16).chunks(document(" \n\n ")) == []
    with pytest.raises(UsageError, match="at least 16"):
        Chunker(minilm, 4)


def test_title_source_language_and_metadata_come_from_the_document(minilm: MiniLMTokenizer) -> None:
    parsed = parse_document(
        b"# Wool\n\nSheep were shorn in the month of May.", source="notes/wool.md", metadata={"year": 1911}
    )
    (chunk,) = Chunker(minilm, 100).chunks(parsed)
    assert (chunk.title, chunk.source, chunk.language, chunk.metadata) == (
        "Wool",
        "notes/wool.md",
        "en",
        {"year": 1911},
    )
    assert chunk.document_id == parsed.document_id


@pytest.mark.slow
def test_five_megabytes_take_a_few_seconds(minilm: MiniLMTokenizer) -> None:
    paragraph = "The mill was sold in spring, and the new owner kept every hand. Wages rose by a shilling. " * 5
    parsed = document("\n\n".join(f"{number}. {paragraph}" for number in range(11_000)))
    assert len(parsed.text) > 4_900_000
    began = time.process_time()
    chunks = Chunker(minilm, 200).chunks(parsed)
    assert time.process_time() - began < 60
    assert sum(chunk.tokens for chunk in chunks) / len(chunks) > 100
