"""What an ingest has to do: the difference between what a source lists and what a corpus and its staging know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import groupby
from typing import Final, NamedTuple

from lightrag.ingestion.committed import KnownDocument
from lightrag.ingestion.items import Ignored, Source, document_id
from lightrag.ingestion.line import Unit
from lightrag.ingestion.recipe import Recipe
from lightrag.ingestion.staging import Staged
from lightrag.ingestion.states import DocumentState, Failure

UNIT_DOCUMENTS: Final = 256


@dataclass(frozen=True, slots=True)
class Listing:
    """What a source holds."""

    name: str
    complete: bool
    states: tuple[DocumentState, ...]
    """Documents in the source's order, with the keys that their results must have."""
    ignored: tuple[Ignored, ...]
    duplicates: Mapping[str, Failure]
    """Documents named twice by the source, which cannot both be meant."""
    foreign: tuple[DocumentState, ...] = ()
    """Documents of other sources in the corpus, with the keys that the settings of now give them."""

    @property
    def everything(self) -> tuple[DocumentState, ...]:
        """Documents of this source and of others."""
        return (*self.states, *self.foreign)

    @classmethod
    def of(cls, source: Source, recipe: Recipe) -> Listing:
        """List a source. Raises as :meth:`Source.items`."""
        states: dict[str, DocumentState] = {}
        ignored: list[Ignored] = []
        duplicates: dict[str, Failure] = {}
        for entry in source.items():
            if isinstance(entry, Ignored):
                ignored.append(entry)
                continue
            identity = document_id(source.name, entry.source)
            if identity in states:
                message = f"{source.name!r} has two documents named {entry.source!r}; give each its own id"
                duplicates[identity] = Failure("read", "duplicate", message, permanent=False)
            states[identity] = DocumentState(entry, identity, recipe.keys(identity, entry))
        return cls(source.name, source.complete, tuple(states.values()), tuple(ignored), duplicates)


class Start(NamedTuple):
    """Where the work on a document begins: results that can be used."""

    path: str = ""
    """Of an object in staging or, with a version, of a chunk file; empty: the source."""
    version: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """Every listed document is in exactly one of ``unchanged``, ``ready``, ``pending`` and ``failed``."""

    unchanged: frozenset[str]
    ready: Mapping[str, str]
    """Documents that have passed all stages, with their place in staging."""
    pending: tuple[DocumentState, ...]
    """Documents that have to pass at least one stage."""
    failed: Mapping[str, Failure]
    """Documents that need not be tried again."""
    removed: frozenset[str]
    """Documents of the corpus that this source delivered before and does not have any more."""
    _: KW_ONLY
    starts: Mapping[str, Start]
    """Of pending documents whose work does not begin at the source."""

    def units(self, unit_bytes: int) -> Iterator[Unit]:
        """Pending documents in batches; those that start from one object come together."""

        def start(state: DocumentState) -> Start:
            return self.starts.get(state.document_id, Start())

        for place, states in groupby(sorted(self.pending, key=start), key=start):
            for batch in [list(states)] if place.path and not place.version else _batches(states, unit_bytes):
                yield Unit(tuple(batch), *place)


def make_plan(
    listing: Listing,
    known: Mapping[str, KnownDocument],
    staged: Mapping[str, Staged],
    *,
    given_up: Mapping[str, Failure],
    keep_missing: bool = False,
    retry_failed: bool = False,
) -> Plan:
    """Compare a listing with a corpus; ``starts`` knows of staging only.

    A document is unchanged if the corpus has it under the same key of the last stage. One that failed under its present
    key for a lasting reason is not tried again. A document is removed when the very source that delivered it does not
    list it any more; documents of other sources stay.

    Args:
        listing: what the source holds now.
        known: what the newest version of the corpus says.
        staged: what waits in staging.
        given_up: failures of this job so far, which it does not try a second time.
        keep_missing: remove nothing.
        retry_failed: try every failed document again.
    """
    unchanged, ready, pending = set(), {}, []
    failed = {**listing.duplicates, **given_up}
    for state in listing.everything:
        identity = state.document_id
        before = known.get(identity)
        if identity in failed:
            continue
        if before and before.keys and before.keys.gist == state.keys.gist:
            unchanged.add(identity)
        elif before and before.failure and _still_fails(before, before.failure, state) and not retry_failed:
            failed[identity] = before.failure
        elif identity in staged and staged[identity].stage == "gist":
            ready[identity] = staged[identity].path
        else:
            pending.append(state)
    listed = {state.document_id for state in listing.states}
    missing = {identity for identity, document in known.items() if document.is_from(listing.name)} - listed
    return Plan(
        frozenset(unchanged),
        ready,
        tuple(pending),
        failed,
        frozenset(missing if listing.complete and not keep_missing else ()),
        starts={
            state.document_id: Start(staged[state.document_id].path) for state in pending if state.document_id in staged
        },
    )


def _still_fails(before: KnownDocument, failure: Failure, state: DocumentState) -> bool:
    return failure.permanent and before.failed_key == state.keys.gist


def _batches(states: Iterable[DocumentState], unit_bytes: int) -> Iterator[Sequence[DocumentState]]:
    batch: list[DocumentState] = []
    size = 0
    for state in states:
        if batch and (size + state.item.size > unit_bytes or len(batch) >= UNIT_DOCUMENTS):
            yield batch
            batch, size = [], 0
        batch.append(state)
        size += state.item.size
    if batch:
        yield batch


__all__ = ["UNIT_DOCUMENTS", "Listing", "Plan", "Start", "make_plan"]
