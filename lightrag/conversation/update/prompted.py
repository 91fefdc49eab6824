"""Reconciliation by a language model: one short question per earlier entry."""

from __future__ import annotations

from lightrag.conversation.extraction.answers import read_json
from lightrag.conversation.types import MemoryEntry
from lightrag.conversation.update.base import Action, Decision, UpdateCase
from lightrag.models.base import LanguageModel, Prompt, Sampling

INSTRUCTIONS = (
    "A memory holds an earlier entry. Later entries follow, in order of time. Decide what becomes of the earlier one: "
    '"update" if the later ones add detail to the same fact (give the full new sentence), "delete" if a later one '
    'contradicts it or replaces it, "ignore" otherwise. The later entries win; never change them. '
    'Answer with JSON only: {"action": "update"|"delete"|"ignore", "new_memory": "<sentence, for update>"}'
)
_ACTIONS: dict[str, Action] = {"update": "update", "delete": "delete", "ignore": "ignore", "merge": "merge"}


class PromptedReconciler:
    """Asks a language model."""

    def __init__(self, model: LanguageModel, sampling: Sampling | None = None) -> None:
        self._model = model
        self._sampling = sampling or Sampling(max_tokens=512, json=True)

    async def decide(self, case: UpdateCase) -> Decision:
        """See :class:`Reconciler`."""
        lines = [f"Earlier: {_line(case.target)}", "Later:", *(f"- {_line(later.entry)}" for later in case.later)]
        prompt = Prompt.of("\n".join(lines), system=INSTRUCTIONS)
        completion = (await self._model.complete([prompt], self._sampling))[0]
        answer = read_json(completion.text)
        value = answer.value if answer is not None and answer.whole else None
        action = _ACTIONS.get(str(value.get("action")).lower()) if isinstance(value, dict) else None
        text = value.get("new_memory") if isinstance(value, dict) else None
        problem = ""
        if action is None:
            problem = f"the model's decision {completion.text[:120]!r} names no action"
        elif action == "update" and not (isinstance(text, str) and text.strip()):
            problem = f"the model's update has the text {text!r}"
        if problem or action is None:
            return Decision("ignore", problem=problem, usage=completion.usage)
        return Decision(
            action,
            text=text.strip() if isinstance(text, str) else "",
            by=case.later[-1].entry.entry_id,
            reason=f"decided by {self._model.name}",
            usage=completion.usage,
        )


def _line(entry: MemoryEntry) -> str:
    return f"[{entry.time:%Y-%m-%d %H:%M}] {entry.text}"


__all__ = ["INSTRUCTIONS", "PromptedReconciler"]
