"""The flow of scores along links."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.retrieval.fusion import Scores
from lightrag.retrieval.graph import Chain, Link, LinkGraph
from lightrag.retrieval.spread import FlowRule, OwnScores, Rows, SpreadWeights, spread, strongest_neighbour

COUNT = 8
own_values = st.lists(st.floats(0, 1, width=32), min_size=COUNT, max_size=COUNT)
edges = st.lists(
    st.tuples(st.integers(0, COUNT - 1), st.integers(0, COUNT - 1), st.sampled_from(["mention", "mentioned_by"])),
    max_size=16,
)


def graph(links: list[tuple[int, int, str]], segments: str = "abcdefgh") -> LinkGraph:
    chain = Chain.of(list(segments), [10] * COUNT)
    return LinkGraph.build(chain, [Link(a, b, kind, 1.0, "name") for a, b, kind in links])  # type: ignore[arg-type]


def lookup(scores: Scores) -> OwnScores:
    return lambda rows: scores[rows]


def scaled(values: list[float]) -> tuple[Rows, Scores]:
    scores = np.array(values, np.float32)
    return np.arange(COUNT), scores / max(float(scores.max()), 1e-6)


@settings(max_examples=80, deadline=None)
@given(own_values, edges)
def test_a_link_brings_a_passage_up_to_its_source_and_never_past_the_best(
    values: list[float], links: list[tuple[int, int, str]]
) -> None:
    rows, scores = scaled(values)
    flow = spread(graph(links), rows, scores, lookup(scores), SpreadWeights())
    totals = scores + flow.total(rows)
    assert (totals >= scores - 1e-6).all()
    assert totals.max() <= scores.max() + 1e-6
    for target, reached in flow.along_links.items():
        leading = [a for a, b, _ in links if b == target]
        assert totals[target] <= max(scores[leading]) + 1e-6
        assert reached.strongest.source in leading


def test_a_mention_of_what_the_question_names_is_not_followed() -> None:
    rows, scores = scaled([1, 0.1, 0, 0, 0, 0, 0, 0])
    links = graph([(0, 1, "mention")])
    weights = SpreadWeights()
    assert spread(links, rows, scores, lookup(scores), weights).total(rows)[1] > 0.5
    assert spread(links, rows, scores, lookup(scores), weights, frozenset({1})).total(rows)[1] == 0


def test_kinds_without_a_rule_carry_nothing() -> None:
    rows, scores = scaled([1, 0.1, 0, 0, 0, 0, 0, 0])
    silent = SpreadWeights(rules={"relation": FlowRule(1.0)})
    assert not spread(graph([(0, 1, "mention")]), rows, scores, lookup(scores), silent).total(rows).any()


def test_a_gated_link_carries_by_how_well_its_target_matches() -> None:
    rows, scores = scaled([1, 0.4, 0.0, 0, 0, 0, 0, 0])
    weights = SpreadWeights(rules={"mentioned_by": FlowRule(0.5, gated=True)})
    flow = spread(graph([(0, 1, "mentioned_by"), (0, 2, "mentioned_by")]), rows, scores, lookup(scores), weights)
    np.testing.assert_allclose(flow.total(rows)[1:3], [0.2, 0.0], atol=1e-6)


def test_neighbours_of_a_match_gain_within_its_segment_and_less_with_distance() -> None:
    rows, scores = np.array([2]), np.array([1.0], np.float32)
    flow = spread(graph([], "aaaaabbb"), rows, scores, lookup(np.eye(COUNT, dtype=np.float32)[2]), SpreadWeights())
    gains = flow.along_chain
    assert gains[1] == gains[3] > gains[0] == gains[4] > 0
    assert gains[2] == 0
    assert not gains[5:].any()


def test_scores_that_are_equal_everywhere_do_not_flow() -> None:
    rows, scores = scaled([1] * COUNT)
    flow = spread(graph([], "a" * COUNT), rows, scores, lookup(scores), SpreadWeights())
    np.testing.assert_allclose(flow.along_chain, 0, atol=1e-6)


def test_many_weak_matches_in_a_row_outweigh_a_lone_stronger_one() -> None:
    rows, scores = scaled([0.6, 0.6, 0.6, 0.6, 0.6, 0, 0, 1])
    chain = Chain.of(list("aaaaabbb"), [500] * COUNT)
    flow = spread(
        LinkGraph.build(chain, []), rows, scores, lookup(scores), SpreadWeights(neighbour=0.8, reach_tokens=5000)
    )
    totals = scores + flow.total(rows)
    assert totals[2] > totals[7]


def test_in_a_short_segment_neighbours_say_little() -> None:
    short, long = (Chain.of(list("aab"), [tokens, tokens, 10]).bonds for tokens in (20, 4000))
    assert short[0] < 0.1 < 0.8 < long[0] < 1
    assert short[2] == long[2]


def test_the_strongest_neighbour_is_the_one_that_hands_most() -> None:
    chain = Chain.of(list("aaaab"), [10, 10, 10, 10, 10])
    rows, scores = np.array([0, 3, 4]), np.array([1.0, 0.9, 1.0], np.float32)
    found = strongest_neighbour(chain, 2, rows, scores, SpreadWeights(reach_tokens=20))
    assert found is not None
    assert (found.source, found.kind) == (3, "neighbour")
    assert strongest_neighbour(chain, 4, rows, scores, SpreadWeights()) is None


def test_an_empty_corpus_has_no_flow() -> None:
    nothing = np.zeros(0, np.float32)
    empty = LinkGraph.build(Chain.of([], []), [])
    flow = spread(empty, np.zeros(0, np.int64), nothing, lookup(nothing), SpreadWeights())
    assert flow.total(np.zeros(0, np.int64)).shape == (0,)
