"""``Model``: a plain generator over a local checkpoint, in the shape of the published one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lightrag.compat.checkpoints import Checkpoints
from lightrag.errors import UsageError
from lightrag.models.base import LanguageModel, Prompt, Sampling
from lightrag.models.concurrency import run_blocking


class Model:
    """Any Hugging Face causal language model; weights are loaded at the first use.

    Args:
        model_name_or_path: local folder or hub id.
        cache_dir: where downloads are kept; empty: the hub's own cache.
        access_token: for the hub; empty: the one that is logged in.
        load_in_4bit: quantise the weights; needs a CUDA GPU and bitsandbytes.
        enable_flash_attn: ``True`` insists on a flash attention kernel; otherwise the device's best one is used.

    Raises:
        BackendError: there is no such model.
        ConfigurationError: this machine lacks what an option needs.

    Example:
        >>> model = Model("Qwen/Qwen2.5-0.5B-Instruct")  # doctest: +SKIP
        >>> [text] = model.generate("When was the pier opened?", max_new_tokens=32)  # doctest: +SKIP
    """

    def __init__(
        self,
        model_name_or_path: str | Path,
        cache_dir: str | Path | None = None,
        access_token: str | None = None,
        load_in_4bit: bool = False,
        enable_flash_attn: bool | None = None,
    ) -> None:
        source = Checkpoints(cache_dir, access_token, load_in_4bit, enable_flash_attn)
        self.model_name_or_path = str(model_name_or_path)
        self.language_model: LanguageModel = source.language_model(model_name_or_path)

    def generate(
        self,
        prompts: str | Sequence[str],
        batch_size: int | None = None,
        max_new_tokens: int = 256,
        temperature: float | None = None,
        top_p: float | None = None,
        do_sample: bool = False,
        repetition_penalty: float = 1.0,
    ) -> list[str]:
        """Answer prompts, each one user turn of the model's chat template.

        Args:
            prompts: one, or several.
            batch_size: prompts generated at once, at most; as many as the model takes where left out.
            max_new_tokens: longest answer.
            temperature: with ``do_sample`` only.
            top_p: with ``do_sample`` only.
            do_sample: draw tokens instead of taking the most likely one.
            repetition_penalty: must be 1; a penalty would also hit the words of the evidence.

        Returns:
            One text per prompt.

        Raises:
            LimitError: prompt and answer exceed the model's window.
            UsageError: a prompt is empty, or options contradict each other.
        """
        asked = [Prompt.of(text) for text in ([prompts] if isinstance(prompts, str) else prompts)]
        if not asked or not all(prompt.messages[0].text.strip() for prompt in asked):
            raise UsageError("there is nothing to answer: a prompt is empty")
        if repetition_penalty != 1.0:
            raise UsageError(f"repetition_penalty={repetition_penalty} is not supported: leave it at 1.0")
        if not do_sample and (temperature or top_p not in (None, 1.0)):
            raise UsageError("temperature and top_p only apply with do_sample=True")
        sampling = Sampling(
            max_tokens=max_new_tokens,
            temperature=(1.0 if temperature is None else temperature) if do_sample else 0.0,
            top_p=1.0 if top_p is None else top_p,
        )
        size = batch_size or len(asked)
        texts: list[str] = []
        for start in range(0, len(asked), size):
            done = run_blocking(self.language_model.complete(asked[start : start + size], sampling))
            texts += [completion.text for completion in done]
        return texts

    def close(self) -> None:
        """Free the weights; later calls are refused."""
        run_blocking(self.language_model.close())


__all__ = ["Model"]
