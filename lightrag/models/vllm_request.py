"""One prompt in the terms of the vLLM engine: placeholders for a memory, embeddings among token ids, its sampling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lightrag.models.base import EngineMemory, Prompt, Sampling
from lightrag.models.local.rendering import RenderedPrompt, segment_length
from lightrag.types import LatentPart

if TYPE_CHECKING:
    import torch

PLACEHOLDER: Final = 0
"""Token id that stands where a memory's cells or latents are; never read."""


def engine_prompt(rendered: RenderedPrompt, prompt: Prompt, dtype: torch.dtype) -> Any:
    """Write a prompt for the engine; latents are converted to its ``dtype``."""
    from vllm.inputs import embeds_input, tokens_input

    cells = prompt.memory.cells if prompt.memory else 0
    salt = (prompt.memory.cache_salt if isinstance(prompt.memory, EngineMemory) else prompt.cache_salt) or None
    ids = [PLACEHOLDER] * cells
    are_ids = [True] * cells
    for segment in rendered.segments:
        latent = isinstance(segment, LatentPart)
        ids += [PLACEHOLDER] * segment_length(segment) if isinstance(segment, LatentPart) else segment
        are_ids += [not latent] * segment_length(segment)
    if not rendered.has_latents:
        return tokens_input(ids, cache_salt=salt)
    embeds = _embeddings(rendered, cells, dtype)
    # The engine looks up the embeddings of real tokens itself.
    return embeds_input(embeds, cache_salt=salt, prompt_token_ids=ids, is_token_ids=are_ids)


def sampling_parameters(prompt: Prompt, sampling: Sampling) -> Any:
    """Write the sampling for the engine, with what its connector needs to find the prompt's memory."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    transfer = dict(prompt.memory.kv_transfer_params) if isinstance(prompt.memory, EngineMemory) else None
    return SamplingParams(
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        stop=list(sampling.stop),
        seed=sampling.seed,
        output_kind=RequestOutputKind.DELTA,
        structured_outputs=StructuredOutputsParams(json_object=True) if sampling.json else None,
        extra_args={"kv_transfer_params": transfer} if transfer else None,
    )


def _embeddings(rendered: RenderedPrompt, cells: int, dtype: torch.dtype) -> torch.Tensor:
    """Latents in their places, zeros elsewhere; shape (positions, hidden)."""
    import torch

    hidden = next(segment.states.shape[1] for segment in rendered.segments if isinstance(segment, LatentPart))
    embeds = torch.zeros(cells + rendered.length, hidden, dtype=dtype)
    start = cells
    for segment in rendered.segments:
        length = segment_length(segment)
        if isinstance(segment, LatentPart):
            embeds[start : start + length] = torch.as_tensor(segment.states).to("cpu", dtype)
        start += length
    return embeds


__all__ = ["PLACEHOLDER", "engine_prompt", "sampling_parameters"]
