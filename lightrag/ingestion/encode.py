"""The encode stage of one job: which groups stay, which earlier jobs have encoded already, and which are to be encoded.

It hands units to a scheduler and collects the files that the next version refers to; it sees no text and no tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from blake3 import blake3

from lightrag.errors import NotFoundError
from lightrag.ingestion.contents import Contents
from lightrag.ingestion.encoding import GroupRecipe
from lightrag.ingestion.group_units import GroupReceipt, GroupUnit
from lightrag.ingestion.grouping import Keyed, Piece, PlannedGroup, Weighed, pieces_of, plan_groups
from lightrag.ingestion.line import Line
from lightrag.ingestion.recipe import StageKeys
from lightrag.storage.commits import Commit, FileEntry
from lightrag.storage.groups import GROUP_FILE, GroupRole, StoredGroup, read_groups
from lightrag.storage.tables import DocumentRow

ROLES: tuple[GroupRole, ...] = ("memory", "latents")
COUNTS: Mapping[GroupRole, str] = {"memory": "memories", "latents": "latent_groups"}
"""Under which names a version counts its groups."""

GroupScheduler = Callable[[Sequence[GroupUnit], Line], Iterator[GroupReceipt]]
"""Encodes units of one role, at least one, in any order and anywhere, and yields a receipt for each."""


@dataclass(frozen=True, slots=True)
class EncodePlan:
    """What is to be done for one role."""

    role: GroupRole
    kept: tuple[StoredGroup, ...]
    """Groups of the version before that stay as they are."""
    gone: tuple[FileEntry, ...]
    """Files of those that do not."""
    resumed: tuple[GroupReceipt, ...]
    """Groups that an earlier job has encoded and not committed."""
    units: tuple[GroupUnit, ...]
    """Groups to encode, and those of ``stale``."""
    stale: Mapping[str, FileEntry] = field(default_factory=dict)
    """Descriptions of kept groups whose routes have to be made anew, by the groups' keys."""


@dataclass(slots=True)
class Encoded:
    """What has been done for all roles."""

    added: list[FileEntry] = field(default_factory=list)
    removed: list[FileEntry] = field(default_factory=list)
    receipts: list[GroupReceipt] = field(default_factory=list)
    """Of what this job has encoded."""
    kept: int = 0
    """Groups that the version before had too."""
    resumed: set[str] = field(default_factory=set)
    """Keys of groups that were found encoded."""
    rerouted: int = 0
    """Groups among those kept that got other routes."""
    counts: dict[str, int] = field(default_factory=dict)
    """Groups by role, as a version records them."""
    staged: list[str] = field(default_factory=list)
    """Notes in staging that the version makes superfluous."""


def plan_encoding(line: Line, base: Commit | None, contents: Contents) -> list[EncodePlan]:
    """Compare the groups of the newest version with what the next one has to have; roles switched off lose theirs.

    Raises:
        ConfigurationError: the settings contradict each other or their models.
        LimitError: a chunk does not fit into a memory.
    """
    plans = []
    for role in ROLES:
        stored = read_groups(line.log, base, role) if base else []
        recipe = line.group_recipes.get(role)
        if recipe is not None:
            plans.append(_plan(line, recipe, stored, contents))
        elif stored:
            plans.append(EncodePlan(role, (), _files(stored), (), ()))
    return plans


def _plan(line: Line, recipe: GroupRecipe, stored: Sequence[StoredGroup], contents: Contents) -> EncodePlan:
    rows = {row.document_id: row for row in contents.documents}
    keyed = [
        Keyed(row.document_id, recipe.document_key(StageKeys.parse(row.settings_hash)), row.chunks)
        for row in contents.documents
    ]
    kept, gone, planned = plan_groups(
        stored, keyed, recipe.key, recipe.budget, lambda pieces: _weighed(recipe, pieces, contents)
    )
    found = {receipt.key: receipt for receipt in line.staging.find_groups(recipe.role, {each.key for each in planned})}
    lost = {entry.path for entry in line.log.missing([entry for each in found.values() for entry in each.entries])}
    resumed = {key: each for key, each in found.items() if lost.isdisjoint(entry.path for entry in each.entries)}
    known = {document.document_id: document for document in keyed}
    units = [_unit(recipe, group, rows, contents) for group in planned if group.key not in resumed]
    stale: dict[str, FileEntry] = {}
    for each in kept:
        group = PlannedGroup(each.group.key, tuple(pieces_of(each.group, known)), each.group.chunks)
        if _routes_key(recipe, group, rows) != each.group.routes_key:
            units.append(_unit(recipe, group, rows, contents, described=each.group.to_json().decode()))
            stale[group.key] = next(entry for entry in each.entries if entry.name == f"{group.key}/{GROUP_FILE}")
    return EncodePlan(recipe.role, tuple(kept), _files(gone), tuple(resumed.values()), tuple(units), stale)


def _weighed(recipe: GroupRecipe, pieces: Iterable[Piece], contents: Contents) -> Iterator[Weighed]:
    for piece in pieces:
        yield Weighed(piece, *recipe.weigh(*contents.read(piece)))


def _unit(
    recipe: GroupRecipe,
    group: PlannedGroup,
    rows: Mapping[str, DocumentRow],
    contents: Contents,
    *,
    described: str = "",
) -> GroupUnit:
    own = [rows[piece.document_id] for piece in group.pieces]
    files = {entry.path: entry for row in own for entry in contents.files[row.document_id]}
    return GroupUnit(
        recipe.role,
        group,
        {row.document_id: row.content_key for row in own},
        chunk_files=tuple(files.values()),
        gist_files=contents.gists if recipe.role == "memory" else (),
        routes_key=_routes_key(recipe, group, rows),
        described=described,
    )


def _routes_key(recipe: GroupRecipe, group: PlannedGroup, rows: Mapping[str, DocumentRow]) -> str:
    keys = [recipe.route_key(StageKeys.parse(rows[piece.document_id].settings_hash)) for piece in group.pieces]
    return blake3("\n".join(keys).encode()).hexdigest(16) if any(keys) else ""


def run_encoding(
    line: Line, plans: Sequence[EncodePlan], schedule: GroupScheduler, report: Callable[[Encoded], None]
) -> Encoded:
    """Have everything encoded that is to be; one role after the other, so that one model is loaded at a time.

    Raises:
        BackendError: a store or a model failed; groups that were done are found again by the next job.
        NotFoundError: files that an earlier job had left have been removed meanwhile; plan again.
    """
    done = Encoded()
    for plan in plans:
        done.kept += len(plan.kept)
        done.resumed |= {receipt.key for receipt in plan.resumed}
        done.removed += plan.gone
        done.added += [entry for receipt in plan.resumed for entry in receipt.entries]
        done.staged += [line.staging.group_path(plan.role, receipt.key) for receipt in plan.resumed]
        done.counts[COUNTS[plan.role]] = len(plan.kept) + len(plan.resumed) + len(plan.units) - len(plan.stale)
    report(done)
    for plan in plans:
        for receipt in schedule(plan.units, line) if plan.units else ():
            done.added += receipt.entries
            if receipt.key in plan.stale:
                done.rerouted += 1
                done.removed.append(plan.stale[receipt.key])
            else:
                done.receipts.append(receipt)
                done.staged.append(line.staging.group_path(plan.role, receipt.key))
            report(done)
    if lost := line.log.missing([entry for plan in plans for receipt in plan.resumed for entry in receipt.entries]):
        raise NotFoundError(f"{lost[0].path!r} was removed before it was committed", subject=lost[0].path)
    return done


def encode_locally(units: Sequence[GroupUnit], line: Line) -> Iterator[GroupReceipt]:
    """Encode units one after the other in this thread: the simplest scheduler."""
    from lightrag.ingestion.encoders import GroupStation

    station = GroupStation(line, units[0].role)
    for unit in units:
        yield station.run(unit)


def _files(groups: Iterable[StoredGroup]) -> tuple[FileEntry, ...]:
    return tuple(entry for stored in groups for entry in stored.entries)


__all__ = [
    "COUNTS",
    "EncodePlan",
    "Encoded",
    "GroupScheduler",
    "encode_locally",
    "plan_encoding",
    "run_encoding",
]
