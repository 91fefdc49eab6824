"""Typed links and reading order as stored arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.errors import ArtifactError, UsageError
from lightrag.retrieval.graph import KINDS, Chain, Link, LinkGraph

PASSAGES = 6
links = st.lists(
    st.builds(
        Link,
        st.integers(0, PASSAGES - 1),
        st.integers(0, PASSAGES - 1),
        st.sampled_from(KINDS),
        st.sampled_from([0.25, 0.5, 1.0]),
        st.sampled_from(["", "selm", "port brannoch"]),
    ),
    max_size=30,
)


def chain() -> Chain:
    return Chain.of(["a", "a", "a", "b", "b", "c"], [5, 0, 7, 3, 3, 100])


@settings(max_examples=60, deadline=None)
@given(links)
def test_a_graph_keeps_the_strongest_of_equal_links_and_survives_storage(given_links: list[Link]) -> None:
    graph = LinkGraph.build(chain(), given_links)
    graph.check_integrity()
    strongest: dict[tuple[int, int, str], float] = {}
    for link in given_links:
        if link.source != link.target:
            key = (link.source, link.target, link.kind)
            strongest[key] = max(strongest.get(key, 0), link.weight)
    kept = [link for row in range(PASSAGES) for link in graph.from_passage(row)]
    assert {(link.source, link.target, link.kind): link.weight for link in kept} == strongest
    again = LinkGraph.load(graph.save())
    again.check_integrity()
    assert [link for row in range(PASSAGES) for link in again.from_passage(row)] == kept
    np.testing.assert_array_equal(again.chain.segments, graph.chain.segments)


@pytest.mark.parametrize("link", [Link(0, 9, "mention", 1), Link(-1, 0, "mention", 1), Link(0, 1, "mention", 0)])
def test_impossible_links_are_refused(link: Link) -> None:
    with pytest.raises(UsageError, match="not possible"):
        LinkGraph.build(chain(), [link])


def test_segments_change_where_labels_change_and_distances_grow() -> None:
    order = chain()
    assert order.segments.tolist() == [1, 1, 1, 2, 2, 3]
    assert (np.diff(order.centres) > 0).all()


def test_an_empty_corpus_has_an_empty_graph() -> None:
    graph = LinkGraph.load(LinkGraph.build(Chain.of([], []), []).save())
    graph.check_integrity()
    assert (graph.passages, len(graph)) == (0, 0)


def test_damaged_arrays_are_noticed() -> None:
    graph = LinkGraph.build(chain(), [Link(0, 1, "mention", 1.0)])
    graph.targets[0] = 77
    with pytest.raises(ArtifactError, match="damaged"):
        graph.check_integrity()


def test_kinds_of_a_later_version_are_refused() -> None:
    files = LinkGraph.build(chain(), []).save()
    files["links.json"] = files["links.json"].replace(b'"mention"', b'"hyperlink"')
    with pytest.raises(ArtifactError, match="unknown kinds"):
        LinkGraph.load(files)
