"""The line that documents pass along: stages with their staging, opened alike in one process and in many.

It knows no scheduler. A scheduler cuts the line into stations where it likes, one for each worker process or pool, and
carries batches from one to the next; everything a station does is safe to repeat.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property
from typing import Any, Final, Self

from lightrag.config import Settings
from lightrag.documents import SUFFIXES
from lightrag.ingestion.committed import StoredResults
from lightrag.ingestion.encoding import GroupRecipe, group_recipes
from lightrag.ingestion.items import Source, SourceItem
from lightrag.ingestion.recipe import Recipe, StageKeys
from lightrag.ingestion.sources import open_source
from lightrag.ingestion.spec import IngestSpec
from lightrag.ingestion.stages import EmbedStage, GistStage, ReadStage, Stage
from lightrag.ingestion.staging import STAGES, Staging
from lightrag.ingestion.states import DocumentState, Failure, StageName
from lightrag.models.base import Embedder, LanguageModel
from lightrag.storage.artifacts import CorpusLog
from lightrag.storage.groups import GroupRole
from lightrag.storage.objects import ObjectStore, open_object_store


@dataclass(frozen=True, slots=True)
class Unit:
    """A batch of documents to bring through all stages: what one worker does at a time, and repeats at most."""

    states: tuple[DocumentState, ...]
    """Documents as listed, without results."""
    path: str = ""
    """Object in staging or, with a version, chunk file where their results so far are; empty: in the source."""
    version: int = 0

    def to_json(self) -> str:
        """For carriage between processes."""
        documents = [[state.item.to_plain(), state.document_id, state.keys] for state in self.states]
        return json.dumps({"path": self.path, "version": self.version, "documents": documents})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Undo :meth:`to_json`."""
        plain = json.loads(text)
        states = tuple(
            DocumentState(SourceItem.from_plain(item), document_id, StageKeys(*keys))
            for item, document_id, keys in plain["documents"]
        )
        return cls(states, plain["path"], plain["version"])


@dataclass(frozen=True, slots=True)
class Receipt:
    """What has become of some documents that went through all stages."""

    done: Mapping[str, str]
    """Place in staging of every document that passed."""
    failed: Mapping[str, Failure]
    _: KW_ONLY
    chunks: int = 0
    tokens: int = 0
    bytes: int = 0
    """Of the sources."""
    seconds: Mapping[StageName, float] = field(default_factory=dict)
    """Processor time per stage."""
    staged: frozenset[str] = frozenset()
    """Every object in staging that holds results of these documents."""

    @classmethod
    def of(cls, states: Sequence[DocumentState]) -> Self:
        """Sum up documents that have passed all stages of a station or failed."""
        chunks = [chunk for state in states for chunk in state.chunks]
        return cls(
            {state.document_id: state.staged[-1] for state in states if state.staged and not state.failure},
            {state.document_id: state.failure for state in states if state.failure},
            chunks=len(chunks),
            tokens=sum(chunk.tokens for chunk in chunks),
            bytes=sum(state.item.size for state in states),
            seconds={stage: sum(state.seconds.get(stage, 0.0) for state in states) for stage in STAGES},
            staged=frozenset(path for state in states for path in state.staged),
        )

    def to_json(self) -> str:
        """For carriage between processes."""
        plain = {name: getattr(self, name) for name in ("done", "chunks", "tokens", "bytes", "seconds")}
        failed = {name: failure._asdict() for name, failure in self.failed.items()}
        return json.dumps({**plain, "failed": failed, "staged": sorted(self.staged)})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Undo :meth:`to_json`."""
        plain: dict[str, Any] = json.loads(text)
        failed = {name: Failure(**failure) for name, failure in plain.pop("failed").items()}
        return cls(plain.pop("done"), failed, staged=frozenset(plain.pop("staged")), **plain)


class Line:
    """Everything a job needs, opened on first use; pickled, it carries only what describes it.

    Close it, or use it as a context manager, to free models that were opened for it. It belongs to one thread, and not
    to one that runs an event loop.

    Args:
        settings: how to ingest.
        spec: what to ingest.
        source: instead of the one that ``spec`` describes, for documents in memory.
        embedder: instead of the one of the settings.
        language_model: writes gists.
        store: instead of the one of the settings.
    """

    def __init__(
        self,
        settings: Settings,
        spec: IngestSpec,
        *,
        source: Source | None = None,
        embedder: Embedder | None = None,
        language_model: LanguageModel | None = None,
        store: ObjectStore | None = None,
    ) -> None:
        self.settings = settings
        self.spec = spec
        self._given: dict[str, Any] = {
            "source": source,
            "embedder": embedder,
            "language_model": language_model,
            "store": store,
        }

    def __reduce__(self) -> tuple[object, ...]:
        # What was opened here is opened again there; what was given travels along, if it can.
        return (_rebuild_line, (self.settings, self.spec, self._given))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the models."""
        if "recipe" in vars(self):
            self.recipe.close()

    @cached_property
    def recipe(self) -> Recipe:
        """Models and keys."""
        return Recipe(self.settings, embedder=self._given["embedder"], language_model=self._given["language_model"])

    @cached_property
    def source(self) -> Source:
        """Where documents come from."""
        return self._given["source"] or open_source(
            self.spec.source,
            suffixes=frozenset(SUFFIXES),
            max_bytes=self.settings.ingest.max_document_bytes,
            corpora=self.log.store,
            target=self.spec.corpus_id,
        )

    @cached_property
    def group_recipes(self) -> Mapping[GroupRole, GroupRecipe]:
        """How groups of documents are encoded, by role; empty where nothing is.

        Raises:
            ConfigurationError: the settings contradict each other or their models.
            BackendError: a model is not there.
        """
        return group_recipes(self.settings, self.recipe)

    @property
    def group_keys(self) -> dict[str, str]:
        """Keys of the recipes, as a version records them."""
        return {role: recipe.key for role, recipe in self.group_recipes.items()}

    @cached_property
    def log(self) -> CorpusLog:
        """Versions of the corpus."""
        storage = self.settings.storage
        store = self._given["store"] or open_object_store(self.settings.storage_url, storage.options)
        return CorpusLog(store, self.spec.corpus_id)

    @cached_property
    def staging(self) -> Staging:
        """Results that wait for the commit."""
        return Staging(self.log.store, self.spec.corpus_id)

    def with_language_model(self, model: LanguageModel) -> Line:
        """The same line with another model that writes gists; keys do not follow it unless its name differs."""
        return Line(self.settings, self.spec, **{**self._given, "language_model": model})

    def station(self, *names: StageName) -> Station:
        """Some consecutive stages, all by default, with their models."""
        return Station(self, names or STAGES)


class Station:
    """Consecutive stages of a line in one thread of one process. What it has done once it finds in staging again."""

    def __init__(self, line: Line, names: Sequence[StageName]) -> None:
        self._stored: Final = StoredResults(line.log)
        self._staging: Final = line.staging
        self._stages: list[Stage] = [_open_stage(line, name) for name in names]

    def load(self, unit: Unit) -> list[DocumentState]:
        """Begin with a unit: fetch what earlier jobs have done of it."""
        if not unit.path:
            return list(unit.states)
        if unit.version:
            return self._stored.load(unit.version, unit.path, unit.states)
        wanted = {state.document_id: state for state in unit.states}
        loaded = self._staging.load(unit.path, frozenset(wanted))
        return [_resumed(state, wanted[state.document_id].keys) for state in loaded]

    def run(self, states: Sequence[DocumentState]) -> list[DocumentState]:
        """Bring documents through the stages of this station.

        Raises:
            BackendError: a store or a model failed; what was staged before stays.
        """
        for stage in self._stages:
            states = self._staged(stage.name, states, stage.run(states))
        return list(states)

    def _staged(
        self, name: StageName, before: Sequence[DocumentState], after: Sequence[DocumentState]
    ) -> list[DocumentState]:
        advanced = [new for old, new in zip(before, after, strict=True) if new is not old and not new.failure]
        placed = {state.document_id: state for state in self._staging.put(name, advanced)} if advanced else {}
        return [placed.get(state.document_id, state) for state in after]


def run_locally(units: Iterable[Unit], line: Line) -> Iterator[Receipt]:
    """Bring units through all stages, one after the other, in this thread: the simplest scheduler."""
    station = line.station()
    for unit in units:
        yield Receipt.of(station.run(station.load(unit)))


def _open_stage(line: Line, name: StageName) -> Stage:
    match name:
        case "read":
            return ReadStage(line.recipe, line.source)
        case "embed":
            return EmbedStage(line.recipe)
        case "gist":
            return GistStage(line.recipe)


def _resumed(state: DocumentState, keys: StageKeys) -> DocumentState:
    """Drop results that were made by other settings than those asked for now."""
    if state.keys.embed != keys.embed:
        state = replace(state, vectors=None)
    if state.keys.gist != keys.gist:
        state = replace(state, gists=None)
    return replace(state, keys=keys)


def _rebuild_line(settings: Settings, spec: IngestSpec, given: Mapping[str, Any]) -> Line:
    return Line(settings, spec, **given)


__all__ = ["Line", "Receipt", "Station", "Unit", "run_locally"]
