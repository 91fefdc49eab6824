"""The folder in which a pipeline keeps what it memorised: ours, and the one that the published system wrote.

Both have the same three names. ``chunks.json`` is a list of texts and ``index.bin`` a FAISS index of their vectors;
``memory.bin`` is a folder here, of safetensors and JSON, and a file there. Ours adds ``memorag.json``, written last,
which says what belongs together. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np

from lightrag.compat.folders import replaced, write_whole
from lightrag.compat.passages import Passages
from lightrag.compat.readers import Reader, Remembered, text_identity
from lightrag.errors import ArtifactError, NotFoundError
from lightrag.models.base import Embedder, FloatMatrix

MEMORY_NAME: Final = "memory.bin"
CHUNKS_NAME: Final = "chunks.json"
INDEX_NAME: Final = "index.bin"
MANIFEST_NAME: Final = "memorag.json"
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Memorised:
    """A text as a pipeline has it: remembered, and cut into passages. Immutable."""

    remembered: Remembered
    passages: Passages
    identity: str
    """See :func:`~lightrag.compat.readers.text_identity`."""

    @property
    def characters(self) -> int:
        """Length of the text, about."""
        return sum(len(text) for text in self.passages.texts)


def save_folder(memorised: Memorised, reader: Reader, folder: Path) -> None:
    """Write all of it; what was in the folder before counts until the last file is written.

    Raises:
        BackendError: the folder cannot be written.
    """
    contents = {
        CHUNKS_NAME: json.dumps(memorised.passages.texts, ensure_ascii=False).encode("utf-8", "surrogatepass"),
        INDEX_NAME: _index_bytes(memorised.passages.vectors),
    }
    manifest = {
        "format": _FORMAT,
        "identity": memorised.identity,
        "language": memorised.remembered.language,
        "embedder": memorised.passages.embedder.fingerprint,
        "files": {name: _hash(content) for name, content in contents.items()},
    }
    with replaced(folder / MEMORY_NAME) as staged:
        reader.save(memorised.remembered, staged)
    for name, content in contents.items():
        write_whole(folder / name, content)
    write_whole(folder / MANIFEST_NAME, json.dumps(manifest).encode())


def load_folder(folder: Path, reader: Reader, embedder: Embedder) -> Memorised:
    """Read a folder of ours or of the published system.

    Raises:
        NotFoundError: there is no such folder, or nothing memorised in it.
        ArtifactError: a file is damaged, they do not belong together, or another model made the memory.
    """
    memory = folder / MEMORY_NAME
    missing = [name for name in (MEMORY_NAME, CHUNKS_NAME, INDEX_NAME) if not (folder / name).exists()]
    if missing:
        raise NotFoundError(f"nothing was memorised in {str(folder)!r}: there is no {missing[0]}", subject=str(folder))
    contents = {name: (folder / name).read_bytes() for name in (CHUNKS_NAME, INDEX_NAME)}
    manifest = _manifest(folder, contents) if memory.is_dir() else {}
    texts = _texts(contents[CHUNKS_NAME], str(folder))
    remembered = reader.load(memory)
    identity = text_identity("".join(texts))
    if remembered.identity and remembered.identity != identity:
        raise ArtifactError(_mixed(folder), subject=str(folder))
    passages = Passages.restored(
        texts,
        _vectors(contents[INDEX_NAME], str(folder)),
        embedder,
        trusted=manifest.get("embedder") == embedder.fingerprint,
    )
    if remembered.language == "und":
        remembered = replace(remembered, language=passages.chunks[0].language)
    return Memorised(remembered, passages, identity)


def _manifest(folder: Path, contents: Mapping[str, bytes]) -> Mapping[str, Any]:
    path = folder / MANIFEST_NAME
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["format"] != _FORMAT:
            raise ArtifactError(f"{str(path)!r} has format {manifest['format']!r}, this version reads {_FORMAT}")
        if any(_hash(content) != manifest["files"][name] for name, content in contents.items()):
            raise ArtifactError(_mixed(folder), subject=str(folder))
    except FileNotFoundError as error:
        raise ArtifactError(_mixed(folder), subject=str(folder)) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{str(path)!r} cannot be read: {error}", subject=str(path)) from error
    return manifest


def _mixed(folder: Path) -> str:
    return (
        f"the files in {str(folder)!r} do not belong together: they were changed, or saving was interrupted; "
        "memorise the text again"
    )


def _texts(content: bytes, subject: str) -> Sequence[str]:
    try:
        texts = json.loads(content.decode("utf-8", "surrogatepass"))
    except ValueError as error:
        raise ArtifactError(f"{CHUNKS_NAME} in {subject!r} is not JSON in UTF-8: {error}", subject=subject) from error
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise ArtifactError(f"{CHUNKS_NAME} in {subject!r} is not a list of texts", subject=subject)
    return texts


def _vectors(content: bytes, subject: str) -> FloatMatrix:
    faiss = _faiss()
    try:
        index = faiss.deserialize_index(np.frombuffer(content, dtype=np.uint8))
        found: FloatMatrix = index.reconstruct_n(0, index.ntotal)
    except RuntimeError as error:
        raise ArtifactError(
            f"{INDEX_NAME} in {subject!r} is not a flat FAISS index: {error}", subject=subject
        ) from error
    return found


def _index_bytes(vectors: FloatMatrix) -> bytes:
    faiss = _faiss()
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors, dtype=np.float32))
    return bytes(faiss.serialize_index(index).tobytes())


def _hash(content: bytes) -> str:
    from blake3 import blake3

    return blake3(content).hexdigest()


def _faiss() -> Any:
    # Loaded on first use, and without its type stubs, which describe the C++ side of these calls.
    return import_module("faiss")


__all__ = ["Memorised", "load_folder", "save_folder"]
