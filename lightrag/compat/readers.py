"""What reads a text once and is asked about it later: the protocol, and the value that it keeps of the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lightrag.memory.prompts import PromptSet

if TYPE_CHECKING:
    from lightrag.memory.kv_memory import KVMemory
    from lightrag.types import Tokenizer


@dataclass(frozen=True, slots=True, eq=False)
class Remembered:
    """What is kept of a text. Immutable; any number of questions may share it."""

    language: str
    """Of the text, ISO 639-1; ``und`` where nobody knows."""
    source_tokens: int
    """Length of the text for the model that read it."""
    _: KW_ONLY
    cells: KVMemory | None = None
    """``None`` where the text itself is sent with every question."""
    text: str = ""
    """What stands for the text where it is not in the cells as it was: its gists, or the whole of it."""
    identity: str = ""
    """Of the text, see :func:`text_identity`; empty where nobody knows."""

    def __str__(self) -> str:
        if self.cells is None:
            return f"{len(self.text):,} characters of text"
        return f"{_size(self.cells.byte_count)}, {self.cells.cells:,} cells ({self.cells.kind})"


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.2f} GiB"


class Reader(Protocol):
    """Reads texts, and follows instructions about what it remembers."""

    @property
    def window(self) -> int | None:
        """Tokens of a prompt and its answer together, without memory; ``None`` where nobody knows."""
        ...

    @property
    def tokenizer(self) -> Tokenizer:
        """Counts as the model does."""
        ...

    def memorise(self, text: str, language: str, prompts: PromptSet) -> Remembered:
        """Read a text.

        Raises:
            LimitError: it is longer than the model can take.
        """
        ...

    def ask(self, held: Remembered, instructions: Sequence[str], max_tokens: int, prompts: PromptSet) -> list[str]:
        """Follow several instructions over what was read, in one batch."""
        ...

    def generate(self, prompts: Sequence[str], max_tokens: int, held: Remembered | None) -> list[str]:
        """Answer prompts that bring their evidence along."""
        ...

    def save(self, held: Remembered, folder: Path) -> None:
        """Write what is remembered into an empty folder."""
        ...

    def load(self, path: Path) -> Remembered:
        """Read what :meth:`save` wrote, or a published file where the model made it.

        Raises:
            ArtifactError: it is damaged, or another model made it.
        """
        ...


def text_identity(text: str) -> str:
    """Hash of a text without its white space, so that a text and the passages cut from it have the same one."""
    from blake3 import blake3

    return blake3("".join(text.split()).encode("utf-8", "surrogatepass")).hexdigest(16)


__all__ = ["Reader", "Remembered", "text_identity"]
