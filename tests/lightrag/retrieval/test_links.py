"""Links that the text itself shows."""

from __future__ import annotations

import tracemalloc

import numpy as np

from lightrag.retrieval.lexical import LexicalIndex
from lightrag.retrieval.links import SHARED_NAME_LIMIT, find_names, mention_links, shared_name_links
from lightrag.types import Chunk
from tests.lightrag.retrieval.corpora import chunk, lakes


def lexical(chunks: list[Chunk]) -> LexicalIndex:
    return LexicalIndex.build([one.text for one in chunks], ["en"] * len(chunks))


def test_a_mention_leads_to_what_is_mentioned_and_back() -> None:
    chunks = lakes()
    links = list(mention_links(chunks, find_names(chunks, lexical(chunks))))
    forward = {(link.source, link.target, link.label) for link in links if link.kind == "mention"}
    assert forward == {(0, 1, "Selm"), (1, 2, "Port Brannoch"), (2, 3, "Ada Lindqvist")}
    backward = {(link.target, link.source, link.label) for link in links if link.kind == "mentioned_by"}
    assert backward == forward


def test_what_many_mention_weighs_less() -> None:
    chunks = [chunk("t", "A harbour.", title="Port Brannoch")]
    chunks += [chunk(f"m{n}", "A trip to Port Brannoch.", title=f"Trip {n}") for n in range(4)]
    weights = [link.weight for link in mention_links(chunks, find_names(chunks, lexical(chunks)))]
    assert weights == [0.5] * 8


def test_passages_about_the_same_name_do_not_mention_each_other() -> None:
    chunks = [chunk("a", "Selm is long.", title="Selm"), chunk("b", "Selm is cold.", title="Selm (river)")]
    assert list(mention_links(chunks, find_names(chunks, lexical(chunks)))) == []


def test_a_later_passage_of_a_document_is_not_what_its_title_stands_for() -> None:
    chunks = [
        chunk("a0", "Start.", document="a", title="Long Report"),
        chunk("a1", "More.", document="a", ordinal=1, title="Long Report"),
        chunk("b", "See the Long Report.", title="Note"),
    ]
    targets = [link.target for link in mention_links(chunks, find_names(chunks, lexical(chunks)))]
    assert targets == [0, 2]


def test_untitled_passages_that_share_rare_words_are_linked_in_any_language() -> None:
    chunks = [
        chunk("a", "we saw quokkas"),
        chunk("b", "the quokkas were tame"),
        chunk("c", "我们看见了袋鼠", language="zh"),
        chunk("d", "袋鼠很友好", language="zh"),
        chunk("e", "nothing else"),
    ]
    index = LexicalIndex.build([one.text for one in chunks], [one.language for one in chunks])
    links = {(link.source, link.target): link for link in shared_name_links(chunks, index)}
    assert set(links) == {(0, 1), (1, 0), (2, 3), (3, 2)}
    assert links[0, 1].label == "quokkas"
    assert links[2, 3].label == "袋鼠"
    assert 0 < links[0, 1].weight <= 1


def test_in_short_documents_shared_words_link_nothing_and_in_long_ones_by_their_length() -> None:
    chunks = [chunk("a", "rare quokkas"), chunk("b", "more quokkas"), chunk("c", "no animal")]
    index = lexical(chunks)
    free = {(link.source, link.target): link.weight for link in shared_name_links(chunks, index)}
    half = np.array([1.0, 0.5, 1.0], np.float32)
    bonded = {(link.source, link.target): link.weight for link in shared_name_links(chunks, index, half)}
    assert bonded == {pair: weight / 2 for pair, weight in free.items()}
    assert list(shared_name_links(chunks, index, np.array([1.0, 0.1, 1.0], np.float32))) == []


def test_the_rarest_shared_word_is_what_links_two_passages() -> None:
    chunks = [chunk("a", "ferry quokkas"), chunk("b", "ferry quokkas"), chunk("c", "ferry"), chunk("d", "other")]
    labels = {link.label for link in shared_name_links(chunks, lexical(chunks)) if {link.source, link.target} == {0, 1}}
    assert labels == {"quokkas"}


def test_a_heading_with_a_proper_name_is_what_others_mention() -> None:
    from dataclasses import replace

    def under(identity: str, heading: str, text: str) -> Chunk:
        return replace(chunk(identity, text, document="report", title="Annual Report"), heading=heading)

    chunks = [
        under("a", "1961 › Results", "The results were good. See what became of the Ketterin."),
        under("b", "1961 › The ice", "In January the ice closed the sound."),
        under("c", "1961 › Ketterin", "She was built in our own yard."),
        under("d", "1961 › Ketterin", "Her engines are new. The Ketterin sails in May."),
        under("e", "1962 › Notes", "Good results, in spite of the ice."),
    ]
    links = list(mention_links(chunks, find_names(chunks, lexical(chunks))))
    assert {(link.source, link.target, link.label) for link in links if link.kind == "mention"} == {(0, 2, "Ketterin")}


def test_linking_grows_with_the_text_and_not_with_its_square() -> None:
    def work(count: int) -> int:
        """Bytes that linking needs at its highest: unlike seconds, the same on a busy machine."""
        rng = np.random.default_rng(0)
        words = [f"w{number}" for number in range(count)]
        chunks = [chunk(str(n), " ".join(rng.choice(words, 20))) for n in range(count)]
        index = lexical(chunks)
        tracemalloc.start()
        try:
            assert sum(1 for _ in shared_name_links(chunks, index)) <= count * SHARED_NAME_LIMIT
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert work(4000) < 8 * work(1000)
