"""The prompts of a pipeline as a mapping whose entries can be replaced, under the published keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import asdict
from typing import Final

from lightrag.documents import detect_language
from lightrag.errors import UsageError
from lightrag.memory.prompts import PromptSet, prompts_for

_NEEDED: Final = {
    "context": ("context",),
    "gist": ("context",),
    "span": ("question",),
    "sur": ("question",),
    "qa": ("question",),
    "qa_gen": ("context", "input"),
    "sum_gen": ("context",),
}
"""Placeholders without which a prompt would lose what it is about."""


class PromptBook(MutableMapping[str, str]):
    """English and Chinese prompts; those that are set replace both. Deleting one brings the built-in one back.

    Keys: ``context gist span sur qa sum qa_gen sum_gen``, and ``acknowledge`` for what the model is taken to have said
    after reading the text. Reading gives the prompt in the language of the text that was memorised last.

    Args:
        replaced: prompts by key.

    Raises:
        UsageError: a key is unknown, or a prompt lacks a placeholder it needs.
    """

    def __init__(self, replaced: Mapping[str, str] | None = None) -> None:
        self._replaced: dict[str, str] = {}
        self.language = "en"
        self.update(replaced or {})

    def of(self, language: str, question: str = "") -> PromptSet:
        """All prompts for a language; where nobody knows it, for that of the question."""
        code = detect_language(question).code if language == "und" and question else language
        return prompts_for(code).with_replaced(self._replaced)

    def __getitem__(self, key: str) -> str:
        return str(asdict(self.of(self.language))[key])

    def __setitem__(self, key: str, prompt: str) -> None:
        missing = [name for name in _NEEDED.get(_known(key), ()) if f"{{{name}}}" not in prompt]
        # The question may go by both names everywhere.
        missing = [name for name in missing if name == "context" or not ({"{input}", "{question}"} & _braced(prompt))]
        if missing:
            raise UsageError(f"prompt {key!r} needs the placeholder {{{missing[0]}}}: {prompt[:60]!r}", subject=key)
        self._replaced[key] = prompt

    def __delitem__(self, key: str) -> None:
        del self._replaced[key]

    def __iter__(self) -> Iterator[str]:
        return iter(asdict(prompts_for("en")))

    def __len__(self) -> int:
        return len(asdict(prompts_for("en")))


def _known(key: str) -> str:
    known = sorted(asdict(prompts_for("en")))
    if key not in known:
        raise UsageError(f"no such prompt: {key!r}; the prompts are {known!r}", subject=key)
    return key


def _braced(prompt: str) -> set[str]:
    return {name for name in ("{input}", "{question}") if name in prompt}


__all__ = ["PromptBook"]
