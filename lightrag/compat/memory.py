"""``Memory``: a text read once and asked about, in the shape of the published one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

from lightrag.compat.agent import Agent
from lightrag.compat.chat_reader import ChatReader
from lightrag.compat.checkpoints import Checkpoints
from lightrag.compat.folders import replaced
from lightrag.compat.prompt_book import PromptBook
from lightrag.compat.readers import Reader, Remembered, text_identity
from lightrag.documents import detect_language
from lightrag.errors import NotFoundError, UsageError
from lightrag.memory.clue_lines import clue_lines, distinct
from lightrag.memory.prompts import PromptKey

_CLUE_TOKENS: Final = 192
"""Longest reply with clues, 128 in the published system."""
ANSWER_TOKENS: Final = 256
SUMMARY_TOKENS: Final = 512


@dataclass(frozen=True, slots=True)
class Recalled:
    """What a memory recalled for one question."""

    clues: tuple[str, ...]
    """Spans, then surrogate questions, without near-repetitions."""
    answer: str = ""
    """Straight from memory, where it was asked for."""


class Memory:
    """Reads a text once and answers about it.

    A beacon checkpoint, told by its configuration, gives a compressed memory; any other decoder keeps every token it
    read; an :class:`~lightrag.compat.agent.Agent` is sent the text, or gists of a long one, with every question. One
    object may be asked from several threads.

    Args:
        model_name_or_path: local folder or hub id, or an ``Agent``.
        cache_dir: where downloads are kept; empty: the hub's own cache.
        access_token: for the hub; empty: the one that is logged in.
        beacon_ratio: tokens per cell of a beacon memory; ``None``: the ratios that the checkpoint was trained with.
        load_in_4bit: quantise the weights; needs a CUDA GPU and bitsandbytes.
        enable_flash_attn: ``True`` insists on a flash attention kernel; otherwise the device's best one is used.
        prompts: replaces prompts by key; see :class:`~lightrag.compat.prompt_book.PromptBook`.

    Raises:
        BackendError: there is no such model.
        ConfigurationError: this machine lacks what an option needs, or the model cannot make memories.

    Example:
        >>> memory = Memory("TommyChien/memorag-qwen2-7b-inst", beacon_ratio=4)  # doctest: +SKIP
        >>> memory.memorize(book)  # doctest: +SKIP
        >>> memory.answer("Who signed the lease?")  # doctest: +SKIP
    """

    def __init__(
        self,
        model_name_or_path: str | Path | Agent,
        cache_dir: str | Path | None = None,
        access_token: str | None = None,
        beacon_ratio: int | None = None,
        load_in_4bit: bool = False,
        enable_flash_attn: bool | None = None,
        *,
        prompts: Mapping[str, str] | None = None,
    ) -> None:
        self.prompts = PromptBook(prompts)
        self._held: Remembered | None = None
        if isinstance(model_name_or_path, Agent):
            agent = model_name_or_path
            self.reader: Reader = ChatReader(agent.language_model, temperature=agent.temperature)
        else:
            from lightrag.compat.kv_reader import KVReader

            source = Checkpoints(cache_dir, access_token, load_in_4bit, enable_flash_attn)
            model = source.memory_model(model_name_or_path, beacon_ratio)
            self.reader = KVReader(source.folder(model_name_or_path), model)

    @classmethod
    def over(cls, reader: Reader, prompts: Mapping[str, str] | None = None) -> Self:
        """Make one over anything that reads texts."""
        memory = cls.__new__(cls)
        memory.prompts, memory.reader, memory._held = PromptBook(prompts), reader, None
        return memory

    @property
    def held(self) -> Remembered:
        """What is remembered now.

        Raises:
            UsageError: nothing was memorised.
        """
        if self._held is None:
            raise UsageError("nothing was memorised: call memorize(context) or load(path) first")
        return self._held

    def memorize(self, context: str) -> None:
        """Read a text; it takes the place of the one before.

        Raises:
            UsageError: the text is empty.
            LimitError: it is longer than the model can take.
        """
        self.hold(self.read(context))

    def read(self, context: str) -> Remembered:
        """Read a text without forgetting the one before. Raises as :meth:`memorize`."""
        check_context(context)
        language = detect_language(context).code
        return replace(
            self.reader.memorise(context, language, self.prompts.of(language)), identity=text_identity(context)
        )

    def hold(self, remembered: Remembered | None) -> None:
        """Answer from this from now on; ``None`` forgets."""
        self._held = remembered
        if remembered is not None:
            self.prompts.language = remembered.language

    def reset(self) -> None:
        """Forget what was memorised."""
        self.hold(None)

    def answer(self, query: str, max_new_tokens: int = ANSWER_TOKENS) -> str:
        """Answer a question from memory alone.

        Raises:
            UsageError: the question is empty, or nothing was memorised.
        """
        return self._ask(self.held, [("qa", query)], max_new_tokens)[0]

    def recall(self, query: str, max_new_tokens: int = _CLUE_TOKENS) -> str:
        """Recall what bears on a question, one clue per line. Raises as :meth:`answer`."""
        return "\n".join(clue_lines(self._ask(self.held, [("span", query)], max_new_tokens)[0]))

    def rewrite(self, query: str, max_new_tokens: int = _CLUE_TOKENS) -> str:
        """Suggest more searchable questions behind a question, one per line. Raises as :meth:`answer`."""
        return "\n".join(clue_lines(self._ask(self.held, [("sur", query)], max_new_tokens)[0]))

    def summarize(self, max_new_tokens: int = SUMMARY_TOKENS) -> str:
        """List the main points of the text.

        Raises:
            UsageError: nothing was memorised.
        """
        return self._ask(self.held, [("sum", "")], max_new_tokens)[0]

    def generate(self, prompts: str | Sequence[str], max_new_tokens: int = ANSWER_TOKENS) -> list[str]:
        """Answer prompts that bring their evidence along; a beacon model keeps its memory in front of them.

        Returns:
            One text per prompt.

        Raises:
            LimitError: a prompt and its answer exceed the model's window.
        """
        return self.generate_over(self._held, [prompts] if isinstance(prompts, str) else prompts, max_new_tokens)

    def generate_over(self, held: Remembered | None, prompts: Sequence[str], max_new_tokens: int) -> list[str]:
        """Answer prompts over a given memory; raises as :meth:`generate`."""
        if not prompts or not all(prompt.strip() for prompt in prompts):
            raise UsageError("there is nothing to answer: a prompt is empty")
        check_length(max_new_tokens)
        return self.reader.generate(prompts, max_new_tokens, held)

    def recollect(self, held: Remembered, query: str, *, answer: bool = False) -> Recalled:
        """Recall clues, surrogate questions and an answer in one batch. Raises as :meth:`answer`."""
        keys: tuple[PromptKey, ...] = ("span", "sur", "qa") if answer else ("span", "sur")
        longest = ANSWER_TOKENS if answer else _CLUE_TOKENS
        replies = self._ask(held, [(key, query) for key in keys], longest)
        lines = [line for reply in replies[:2] for line in clue_lines(reply)]
        return Recalled(tuple(distinct(lines)), replies[2].strip() if answer else "")

    def key_points(self, held: Remembered) -> list[str]:
        """Recall the main points, each as one line to search with."""
        return clue_lines(self._ask(held, [("sum", "")], SUMMARY_TOKENS)[0])

    def answer_over(self, held: Remembered, query: str, max_new_tokens: int) -> str:
        """Answer from a given memory; raises as :meth:`answer`."""
        return self._ask(held, [("qa", query)], max_new_tokens)[0]

    def save(self, path: str | Path) -> None:
        """Write the memory; the path, ``…/memory.bin`` for example, becomes a folder of safetensors and JSON.

        A file or a memory that is there already is replaced once the new one is complete.

        Raises:
            UsageError: nothing was memorised, or the path is a folder of something else.
            BackendError: the path cannot be written.
        """
        held, place = self.held, Path(path).expanduser()
        if place.is_dir() and any(place.iterdir()) and not _is_memory(place):
            raise UsageError(
                f"{str(path)!r} is a folder with other files, which a memory would replace: give a path of its own, "
                f"{str(place / 'memory.bin')!r} for example",
                subject=str(path),
            )
        with replaced(place) as folder:
            self.reader.save(held, folder)

    def load(self, path: str | Path) -> None:
        """Read what :meth:`save` wrote, or the ``memory.bin`` of a published beacon memory.

        Args:
            path: of the memory, or of the folder in which it is called ``memory.bin``.

        Raises:
            NotFoundError: there is nothing.
            ArtifactError: it is damaged, or another model made it; the message says what differs.
        """
        place = Path(path).expanduser()
        if (place / "memory.bin").exists():
            place = place / "memory.bin"
        if not place.is_file() and not _is_memory(place):
            raise NotFoundError(f"there is no memory at {str(path)!r}", subject=str(path))
        self.hold(self.reader.load(place))

    def _ask(self, held: Remembered, asked: Sequence[tuple[PromptKey, str]], max_tokens: int) -> list[str]:
        for key, query in asked:
            if key != "sum":
                if not isinstance(query, str) or not query.strip():
                    raise UsageError(f"the question is empty: ask something, not {query!r}")
                check_characters("question", query)
        check_length(max_tokens)
        prompts = self.prompts.of(held.language, asked[0][1])
        instructions = [prompts.fill(key, question=query) for key, query in asked]
        return self.reader.ask(held, instructions, max_tokens, prompts)


def check_context(context: object) -> None:
    """Refuse what is no text before any work is spent on it.

    Raises:
        UsageError: it is empty, or something else.
    """
    if not isinstance(context, str) or not context.strip():
        raise UsageError(f"there is nothing to memorise: the context must be a text, not {context!r}")
    check_characters("context", context)


def check_characters(what: str, text: str) -> None:
    """Refuse halves of characters, which no tokenizer and no file takes.

    Raises:
        UsageError: there is one; the message says where.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"the {what} holds {text[error.start]!r} at character {error.start}, half of a character: decode its bytes "
            "with errors='replace'",
            subject=what,
        ) from error


def check_length(max_new_tokens: object) -> None:
    """Refuse an answer without length.

    Raises:
        UsageError: it is no whole number from 1 on.
    """
    if not isinstance(max_new_tokens, int) or max_new_tokens < 1:
        raise UsageError(f"max_new_tokens must be at least 1, got {max_new_tokens!r}", subject="max_new_tokens")


def _is_memory(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("memory.json", "context.json"))


__all__ = ["ANSWER_TOKENS", "SUMMARY_TOKENS", "Memory", "Recalled", "check_characters", "check_context", "check_length"]
