"""Documents that were encoded together: one KV memory of a corpus, or one part of its latents.

A version lists, in the roles ``memory`` and ``latents``, the files of every group below the group's key, beside a
``group.json`` that says which documents it was made of. A group whose documents are all unchanged is carried over from
version to version as it is. Names, as :attr:`StoredGroup.paths` gives them; paths are below the corpus, see
:meth:`~lightrag.storage.layout.Layout.file`::

    memory   {key}/group.json
             {key}/memory.json          open with load_memory(StorePlace(store, paths=...))
             {key}/cells-*.safetensors
    latents  {key}/group.json
             {key}/latents.json         open with LatentStore(store, lambda name: ...): every group is a whole
             {key}/part.rows            artifact of one part, which holds all passages of the group
             {key}/part.index

Every chunk of a version is in exactly one group of a role. Groups of the role ``memory`` have routes.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from lightrag.errors import ArtifactError
from lightrag.storage.artifacts import CorpusLog
from lightrag.storage.commits import Commit, FileEntry
from lightrag.storage.transfer import parallel

GroupRole = Literal["memory", "latents"]
GROUP_FILE: Final = "group.json"


@dataclass(frozen=True, slots=True)
class DocumentGroup:
    """What was encoded together, and what it is about."""

    key: str
    """Hash over everything that decides its content: its documents, the model, the settings."""
    documents: Mapping[str, str]
    """Key of what was encoded of every document, by its id, in reading order: equal keys mean equal content."""
    tokens: int
    """Of the model that encoded it."""
    language: str
    """Of most of its text."""
    routes: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    """Unit rows, shape (routes, dimension of the corpus's embedder): a question goes to the groups with the nearest."""
    chunks: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Of documents that are only partly in the group: ordinals of the first chunk, and of the one after the last."""
    routes_key: str = ""
    """What the routes were made from: where that alone changes, the group gets other routes and keeps its files."""

    def to_json(self) -> bytes:
        """The content of ``group.json``."""
        plain = {
            "key": self.key,
            "documents": dict(self.documents),
            "chunks": {identity: list(ordinals) for identity, ordinals in self.chunks.items()},
            "tokens": self.tokens,
            "routes_key": self.routes_key,
            "language": self.language,
            "routes": {
                "shape": list(self.routes.shape),
                "float32": base64.b64encode(np.ascontiguousarray(self.routes, "<f4").tobytes()).decode(),
            },
        }
        return json.dumps(plain, ensure_ascii=False).encode()

    @classmethod
    def from_json(cls, data: bytes, *, subject: str = "") -> DocumentGroup:
        """Undo :meth:`to_json`.

        Raises:
            ArtifactError: this is no description of a group.
        """
        try:
            plain = json.loads(data)
            numbers = np.frombuffer(base64.b64decode(plain["routes"]["float32"], validate=True), "<f4")
            return cls(
                str(plain["key"]),
                {str(identity): str(key) for identity, key in plain["documents"].items()},
                int(plain["tokens"]),
                str(plain["language"]),
                numbers.reshape(plain["routes"]["shape"]).astype(np.float32),
                {str(identity): (int(start), int(end)) for identity, (start, end) in plain["chunks"].items()},
                str(plain["routes_key"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError, binascii.Error) as error:
            raise ArtifactError(
                f"{subject or GROUP_FILE} does not describe a group: {error}", subject=subject
            ) from error


@dataclass(frozen=True, slots=True)
class StoredGroup:
    """A group in a version, with its files."""

    group: DocumentGroup
    entries: tuple[FileEntry, ...]

    @property
    def paths(self) -> dict[str, str]:
        """Object path of every file by its name within the group."""
        return {entry.name.removeprefix(f"{self.group.key}/"): entry.path for entry in self.entries}


def read_groups(
    log: CorpusLog, commit: Commit, role: GroupRole, *, known: Mapping[str, DocumentGroup] | None = None
) -> list[StoredGroup]:
    """Read what groups a version has, in the order of their keys.

    Args:
        log: of the corpus.
        commit: the version.
        role: which groups.
        known: descriptions that were read before, by their paths, which are never used twice.

    Raises:
        ArtifactError: a group's description is missing or damaged.
    """
    by_key: dict[str, list[FileEntry]] = {}
    for entry in log.files(commit, role):
        by_key.setdefault(entry.name.partition("/")[0], []).append(entry)

    def read(key: str) -> StoredGroup:
        entries = by_key[key]
        described = next((entry for entry in entries if entry.name == f"{key}/{GROUP_FILE}"), None)
        if described is None:
            raise ArtifactError(f"{role} group {key!r} of {commit.id} has no {GROUP_FILE}", subject=str(commit.id))
        group = (known or {}).get(described.path)
        if group is None:
            group = DocumentGroup.from_json(log.read_file(described), subject=described.path)
        return StoredGroup(group, tuple(entries))

    return list(parallel(read, by_key))


__all__ = ["GROUP_FILE", "DocumentGroup", "GroupRole", "StoredGroup", "read_groups"]
