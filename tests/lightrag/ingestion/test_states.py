from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.errors import ArtifactError
from lightrag.ingestion.items import SourceItem
from lightrag.ingestion.line import Receipt, Unit
from lightrag.ingestion.recipe import StageKeys
from lightrag.ingestion.states import DocumentState, Failure, decode, encode
from lightrag.storage.tables import DocumentRow
from lightrag.types import Chunk, Gist, Section

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
METADATA = st.dictionaries(
    TEXT, st.one_of(TEXT, st.integers(-5, 5), st.booleans(), st.lists(TEXT, max_size=2).map(tuple)), max_size=2
)


@st.composite
def states(draw: st.DrawFn) -> DocumentState:
    identity = draw(st.text("0123456789abcdef", min_size=4, max_size=4))
    metadata = draw(METADATA)
    item = SourceItem(draw(TEXT), draw(TEXT), draw(st.integers(0, 9)), draw(TEXT), metadata=metadata)
    state = DocumentState(item, identity, StageKeys(*draw(st.tuples(TEXT, TEXT, TEXT))))
    if draw(st.booleans()):
        return state.failed("read", draw(TEXT), draw(TEXT), permanent=draw(st.booleans()))
    count = draw(st.integers(0, 3))
    row = DocumentRow(
        identity, "", source=draw(TEXT), title=draw(TEXT), sections=(Section("page", "1", 0, 3),), metadata=metadata
    )
    chunks = tuple(
        Chunk(f"{identity}{n}", identity, n + 3, draw(TEXT), n, n + 1, tokens=n, title=row.title, source=row.source,
              page=draw(TEXT), heading=draw(TEXT), language=row.language, metadata=metadata)
        for n in range(count)
    )  # fmt: skip
    vectors = np.full((count, 2 if count else 0), draw(st.floats(-1, 1, width=32)), np.float32)
    gists = tuple(Gist(f"g{n}", draw(TEXT), 0, (f"{identity}{n}",), identity, n) for n in range(count))
    return DocumentState(
        item, identity, state.keys, row=row, chunks=chunks,
        vectors=vectors if draw(st.booleans()) else None, gists=gists if draw(st.booleans()) else None,
        staged=tuple(draw(st.lists(TEXT, max_size=2))), seconds={"read": 0.5},
    )  # fmt: skip


def plain(state: DocumentState) -> tuple[object, ...]:
    names = [name for name in DocumentState.__slots__ if name != "vectors"]
    return (*(getattr(state, name) for name in names), None if state.vectors is None else state.vectors.tolist())


@settings(deadline=None, max_examples=50)
@given(st.lists(states(), max_size=4))
def test_rows_give_back_the_states(made: list[DocumentState]) -> None:
    table = encode(made)
    assert [plain(state) for state in decode(table)] == [plain(state) for state in made]
    assert [plain(state) for state in decode(table.slice(1))] == [plain(state) for state in made[1:]]
    assert encode(decode(table)).equals(table)


@settings(deadline=None, max_examples=25)
@given(st.lists(states(), min_size=1, max_size=3))
def test_units_and_receipts_survive_the_journey(made: list[DocumentState]) -> None:
    bare = tuple(DocumentState(state.item, state.document_id, state.keys) for state in made)
    assert Unit.from_json(Unit(bare, "p", 3).to_json()) == Unit(bare, "p", 3)
    passed = [state for state in made if state.failure or state.staged]
    receipt = Receipt.of(passed)
    assert Receipt.from_json(receipt.to_json()) == receipt


def test_a_failure_drops_results() -> None:
    state = DocumentState(SourceItem("a", "a", 1, "f"), "id", StageKeys("r", "e", "g"), gists=())
    failed = state.failed("embed", "undecodable", "message", permanent=True)
    assert failed.gists is None
    assert failed.failure == Failure("embed", "undecodable", "message", True)


def test_damaged_rows_are_an_artifact_error() -> None:
    state = DocumentState(SourceItem("a", "a", 1, "f"), "id", StageKeys("r", "e", "g"))
    table = encode([state])
    broken = table.set_column(table.column_names.index("head"), "head", [["{"]])
    with pytest.raises(ArtifactError, match="damaged"):
        decode(broken)
