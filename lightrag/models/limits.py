"""Whether a prompt fits a model; prompts are refused, never cut."""

from __future__ import annotations

from lightrag.errors import LimitError, UsageError
from lightrag.models.local.rendering import RenderedPrompt
from lightrag.types import LatentPart


def check_length(model: str, length: int, max_tokens: int, window: int) -> None:
    """Refuse a prompt of ``length`` positions that does not fit.

    Raises:
        LimitError: prompt and completion together exceed the window.
        UsageError: the prompt is empty.
    """
    if length < 1:
        raise UsageError(f"the prompt for model {model!r} is empty", subject=model)
    if length + max_tokens > window:
        raise LimitError(
            f"a prompt of {length} tokens and {max_tokens} for the answer exceed the {window} of model {model!r}; "
            "shorten the prompt or lower max_tokens",
            subject=model,
        )


def check_latents(model: str, prompt: RenderedPrompt, hidden: int) -> None:
    """Refuse latents that are not embeddings of a model of width ``hidden``.

    Raises:
        UsageError: other shape than (tokens, hidden).
    """
    for segment in prompt.segments:
        if isinstance(segment, LatentPart) and tuple(segment.states.shape[1:]) != (hidden,):
            raise UsageError(
                f"latents of shape {tuple(segment.states.shape)} do not fit model {model!r}, which takes "
                f"(tokens, {hidden})",
                subject=segment.source or None,
            )


__all__ = ["check_latents", "check_length"]
