"""Any Hugging Face causal language model in this process, behind the ``LanguageModel`` protocol."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightrag.errors import ConfigurationError, UsageError
from lightrag.models.base import Capability, Completion, CompletionDelta, KVMemory, Prompt, Sampling
from lightrag.models.files import model_fingerprint, resolve_model
from lightrag.models.limits import check_latents, check_length
from lightrag.models.local.configuration import CheckpointShape, context_window, read_shape
from lightrag.models.local.rendering import PromptRenderer
from lightrag.models.tokenization import HuggingFaceTokenizer

if TYPE_CHECKING:
    from lightrag.models.local.decoder import Decoder
    from lightrag.models.local.engine import Engine
    from lightrag.models.local.row import Row

_Events = asyncio.Queue[CompletionDelta | Exception]


class TransformersLanguageModel:
    """Generates with a local checkpoint on one device.

    All callers share one set of weights: their prompts are generated together in one batch that rows join and leave at
    every token. Prompts over the same KV memory read it in place, once for all of them. Results do not depend on what
    else is in the batch, except where two tokens are equally likely up to rounding.

    Decoding follows :class:`~lightrag.models.base.Sampling` alone; penalties in the checkpoint's generation settings
    are not applied. ``json`` cannot be enforced here: callers validate. Models without a chat template get plain turns,
    which :attr:`notes` says.

    Example:
        >>> model = TransformersLanguageModel("Qwen/Qwen2.5-0.5B-Instruct")  # doctest: +SKIP
        >>> [answer] = await model.complete([Prompt.of("When was the pier opened?")])  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str,
        *,
        device: str = "cpu",
        dtype: str = "auto",
        context_tokens: int | None = None,
        batch_size: int = 16,
        template_options: Mapping[str, Any] | None = None,
        build: Callable[[], Any] | None = None,
    ) -> None:
        """Describe the model; tokenizer and weights are loaded at the first use.

        Args:
            model: local folder or hub id.
            device: as torch names it.
            dtype: of the weights; ``auto`` takes the checkpoint's.
            context_tokens: use a smaller window than the model has.
            batch_size: completions under way at once; more wait.
            template_options: further variables of the chat template, for example ``{"enable_thinking": False}``.
            build: makes the ``transformers`` causal LM where its weights are not the folder's own, such as those inside
                a compressor's checkpoint; tokenizer and configuration still come from ``model``.
        """
        if not model:
            raise ConfigurationError("generator.model is empty: give the folder or hub id of a language model")
        self.name = model
        self._device = device
        self._dtype = dtype
        self._context_cap = context_tokens
        self._batch_size = batch_size
        self._template_options = template_options
        self._build = build
        self._loading = threading.Lock()
        self._running: tuple[Decoder, Engine] | None = None
        self._closed = False

    @cached_property
    def folder(self) -> Path:
        """Where the model's files are."""
        return resolve_model(self.name)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of configuration, vocabulary and weights."""
        return model_fingerprint(self.folder)

    @cached_property
    def renderer(self) -> PromptRenderer:
        """Writes prompts as token ids, exactly as :meth:`complete` does."""
        return PromptRenderer(self.folder, self.name, self._template_options)

    @property
    def tokenizer(self) -> HuggingFaceTokenizer:
        """The model's own tokenizer."""
        return self.renderer.tokenizer

    @property
    def notes(self) -> tuple[str, ...]:
        """What users should know about this model: whether it lacks a chat template."""
        return self.renderer.notes

    @cached_property
    def shape(self) -> CheckpointShape:
        """What the configuration says."""
        return read_shape(self.folder, self.name)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Latents always; KV memories unless some layers see only a shorter window or cap their scores."""
        return frozenset({"kv_memory", "latents"} if self.shape.takes_memory else {"latents"})

    @property
    def context_tokens(self) -> int:
        """Positions of the model: memory, prompt and completion together."""
        return context_window(self.shape, self.name, self._context_cap)

    async def complete(self, prompts: Sequence[Prompt], sampling: Sampling | None = None) -> list[Completion]:
        """Complete every prompt; cancelling stops the computation at the next token.

        Raises:
            LimitError: memory, prompt and ``max_tokens`` exceed :attr:`context_tokens`.
            UsageError: a memory or latents do not belong to this model.
            BackendError: the model cannot be loaded, or failed.
        """
        started = await self._start(prompts, sampling or Sampling())
        try:
            return [await _collected(events) for _, events in started]
        finally:
            for row, _ in started:
                row.cancel()

    async def stream(self, prompt: Prompt, sampling: Sampling | None = None) -> AsyncGenerator[CompletionDelta, None]:
        """Complete one prompt piece by piece; raises as :meth:`complete` does."""
        [(row, events)] = await self._start([prompt], sampling or Sampling())
        try:
            while True:
                delta = await _next(events)
                yield delta
                if delta.finish_reason:
                    return
        finally:
            row.cancel()

    async def warm(self) -> None:
        """Load the weights now; see :class:`lightrag.models.base.Warmable`."""
        await asyncio.to_thread(self._loaded)

    async def close(self) -> None:
        """Stop generating and free the weights; what is under way fails."""
        with self._loading:
            self._closed = True
            running, self._running = self._running, None
        if running:
            await asyncio.to_thread(running[1].close)

    async def _start(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[tuple[Row, _Events]]:
        if not prompts:
            return []
        decoder, engine = await asyncio.to_thread(self._loaded)
        loop = asyncio.get_running_loop()
        queues: list[_Events] = [asyncio.Queue() for _ in prompts]
        rows = [
            self._row(prompt, sampling, decoder, partial(_post, loop, events))
            for prompt, events in zip(prompts, queues, strict=True)
        ]
        engine.submit(rows)
        return list(zip(rows, queues, strict=True))

    def _row(self, prompt: Prompt, sampling: Sampling, decoder: Decoder, emit: Any) -> Row:
        from lightrag.models.local.row import Row

        memory = prompt.memory
        if memory is not None:
            if not isinstance(memory, KVMemory):
                raise UsageError(f"model {self.name!r} needs a memory that is loaded here, not {type(memory).__name__}")
            if not self.shape.takes_memory:
                raise UsageError(f"model {self.name!r} has sliding or capped attention and takes no KV memory")
            decoder.check_memory(memory)
        rendered = self.renderer.render(prompt)
        check_latents(self.name, rendered, decoder.hidden)
        length = rendered.length + (memory.cells if memory else 0)
        check_length(self.name, length, sampling.max_tokens, self.context_tokens)
        return Row(
            rendered,
            memory,
            sampling,
            tokenizer=self.tokenizer.fast,
            end_tokens=decoder.end_tokens,
            emit=emit,
        )

    def _loaded(self) -> tuple[Decoder, Engine]:
        from lightrag.models.local.decoder import Decoder
        from lightrag.models.local.engine import Engine

        with self._loading:
            if self._closed:
                raise UsageError(f"model {self.name!r} is closed; open a new one", subject=self.name)
            if self._running is None:
                decoder = Decoder(self.folder, self.name, self._device, self._dtype, self._build)
                self._running = decoder, Engine(decoder, self.name, self._batch_size)
            return self._running


def _post(loop: asyncio.AbstractEventLoop, events: _Events, event: CompletionDelta | Exception) -> None:
    with contextlib.suppress(RuntimeError):  # a loop that was closed meanwhile has nobody to tell
        loop.call_soon_threadsafe(events.put_nowait, event)


async def _next(events: _Events) -> CompletionDelta:
    event = await events.get()
    if isinstance(event, Exception):
        raise event
    return event


async def _collected(events: _Events) -> Completion:
    text = ""
    while True:
        delta = await _next(events)
        text += delta.text
        if delta.finish_reason and delta.usage:
            return Completion(text, delta.finish_reason, delta.usage)


__all__ = ["TransformersLanguageModel"]
