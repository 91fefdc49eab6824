"""Local language models, on tiny random checkpoints, against transformers' own ``generate``."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from lightrag.errors import BackendError, ConfigurationError, LimitError, UsageError
from lightrag.models.base import Completion, LanguageModel, Prompt, Sampling
from lightrag.models.local.model import TransformersLanguageModel
from lightrag.types import ChatMessage, LatentPart
from tests.checkpoints import TRAINING_TEXT, save_causal_lm
from tests.lightrag.models.local.conftest import FullMemory, Reference, greedy

QUESTIONS = [
    "When was the pier opened?",
    "Who?",
    "What did the council decide in the first winter, and how long was the bay closed by ice? " * 3,
    "港口办公室保存着什么? 😀",
]
SHORT = Sampling(max_tokens=24)


def prompts(questions: list[str]) -> list[Prompt]:
    return [Prompt.of(question, system="Answer with the words of the text.") for question in questions]


def texts(completions: list[Completion]) -> list[str]:
    return [completion.text for completion in completions]


async def test_it_is_a_language_model(model: TransformersLanguageModel) -> None:
    assert isinstance(model, LanguageModel)
    assert model.context_tokens == 4096
    assert model.capabilities == {"kv_memory", "latents"}
    assert model.notes == ()


async def test_a_padded_batch_completes_like_each_prompt_alone(
    model: TransformersLanguageModel, reference: Reference
) -> None:
    completions = await model.complete(prompts(QUESTIONS), SHORT)
    ids = [model.renderer.render(prompt).token_ids for prompt in prompts(QUESTIONS)]
    assert texts(completions) == [reference(each, 24) for each in ids]
    for completion, each in zip(completions, ids, strict=True):
        assert completion.finish_reason == "length"
        assert completion.usage.prompt_tokens == len(each)
        assert completion.usage.completion_tokens == 24
        assert completion.usage.calls == 1


@pytest.mark.parametrize("architecture", ["llama", "mistral", "qwen3", "phi3", "gpt2", "gemma2"])
async def test_other_architectures_agree_with_transformers(architecture: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    options: dict[str, Any] = {"sliding_window": 16} if architecture in {"mistral", "gemma2"} else {}
    folder = save_causal_lm(tmp_path, architecture, seed=5, **options)
    expected = greedy(AutoModelForCausalLM.from_pretrained(folder), folder)
    model = TransformersLanguageModel(str(folder))
    completions = await model.complete(prompts(QUESTIONS), SHORT)
    assert texts(completions) == [expected(model.renderer.render(each).token_ids, 24) for each in prompts(QUESTIONS)]
    assert ("kv_memory" in model.capabilities) == (architecture not in {"mistral", "gemma2"})
    await model.close()


async def test_prompts_that_arrive_while_others_run_join_them_and_change_nothing(
    model: TransformersLanguageModel, reference: Reference
) -> None:
    async def later(index: int) -> Completion:
        await asyncio.sleep(0.02 * index)
        return (await model.complete(prompts(QUESTIONS)[index : index + 1], Sampling(max_tokens=60)))[0]

    completions = await asyncio.gather(*(later(index) for index in range(len(QUESTIONS))))
    expected = [reference(model.renderer.render(prompt).token_ids, 60) for prompt in prompts(QUESTIONS)]
    assert texts(completions) == expected


async def test_more_prompts_than_the_batch_holds_wait_their_turn(tiny_qwen2: Path, reference: Reference) -> None:
    model = TransformersLanguageModel(str(tiny_qwen2), batch_size=2)
    completions = await model.complete(prompts(QUESTIONS) * 2, SHORT)
    assert texts(completions[:4]) == texts(completions[4:])
    assert completions[1].text == reference(model.renderer.render(prompts(QUESTIONS)[1]).token_ids, 24)
    await model.close()


async def test_no_prompts_give_no_completions(model: TransformersLanguageModel) -> None:
    assert await model.complete([]) == []


async def test_streamed_pieces_join_to_the_completion(model: TransformersLanguageModel) -> None:
    prompt = prompts(QUESTIONS)[0]
    [whole] = await model.complete([prompt], SHORT)
    deltas = [delta async for delta in model.stream(prompt, SHORT)]
    assert "".join(delta.text for delta in deltas) == whole.text
    assert len(deltas) > 5
    assert (deltas[-1].finish_reason, deltas[-1].usage) == (whole.finish_reason, whole.usage)
    assert all("�" not in delta.text for delta in deltas if "�" not in whole.text)


async def test_a_stop_string_ends_the_text_before_it(model: TransformersLanguageModel) -> None:
    prompt = prompts(QUESTIONS)[2]
    [whole] = await model.complete([prompt], SHORT)
    stop = whole.text[6:10]
    [stopped] = await model.complete([prompt], Sampling(max_tokens=24, stop=("never", stop)))
    assert stopped.text == whole.text[: whole.text.index(stop)]
    assert stopped.finish_reason == "stop"
    assert stopped.usage.completion_tokens < 24
    streamed = [delta.text async for delta in model.stream(prompt, Sampling(max_tokens=24, stop=(stop,)))]
    assert "".join(streamed) == stopped.text


async def test_the_end_token_stops_and_is_not_shown(tmp_path: Path, tiny_qwen2: Path, reference_model: Any) -> None:
    from transformers import GenerationConfig

    folder = Path(shutil.copytree(tiny_qwen2, tmp_path / "model"))
    model = TransformersLanguageModel(str(folder))
    ids = torch.tensor([model.renderer.render(prompts(QUESTIONS)[0]).token_ids])
    generated = reference_model.generate(ids, max_new_tokens=4, do_sample=False)[0, ids.shape[1] :].tolist()
    GenerationConfig(eos_token_id=[generated[3], 0]).save_pretrained(folder)
    [stopped] = await model.complete(prompts(QUESTIONS[:1]), SHORT)
    assert stopped.finish_reason == "stop"
    assert stopped.text == model.tokenizer.fast.decode(generated[:3])
    assert stopped.usage.completion_tokens == 4
    await model.close()


async def test_equal_seeds_choose_equally_whatever_else_is_in_the_batch(model: TransformersLanguageModel) -> None:
    warm = Sampling(max_tokens=16, temperature=1.0, seed=7)
    alone = await model.complete(prompts(QUESTIONS)[:1], warm)
    together = await model.complete(prompts(QUESTIONS), warm)
    other = await model.complete(prompts(QUESTIONS)[:1], Sampling(max_tokens=16, temperature=1.0, seed=8))
    assert alone[0].text == together[0].text
    assert alone[0].text != other[0].text


async def test_a_tiny_nucleus_is_greedy(model: TransformersLanguageModel) -> None:
    greedy_text = await model.complete(prompts(QUESTIONS)[:1], SHORT)
    narrow = await model.complete(prompts(QUESTIONS)[:1], Sampling(max_tokens=24, temperature=1.0, top_p=1e-6))
    assert texts(narrow) == texts(greedy_text)


async def test_a_prompt_that_does_not_fit_is_refused_and_never_cut(model: TransformersLanguageModel) -> None:
    with pytest.raises(LimitError, match="shorten the prompt or lower max_tokens"):
        await model.complete([Prompt.of("ship " * 5000)], SHORT)
    with pytest.raises(LimitError):
        await model.complete([Prompt.of("ship")], Sampling(max_tokens=4096))


async def test_a_cancelled_caller_stops_the_computation(model: TransformersLanguageModel) -> None:
    passes = await forward_passes(model)
    task = asyncio.create_task(model.complete([Prompt.of("long")] * 20, Sampling(max_tokens=4000)))
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await check_it_rests(passes)


async def test_closing_a_stream_stops_the_computation(model: TransformersLanguageModel) -> None:
    passes = await forward_passes(model)
    stream = model.stream(Prompt.of("long"), Sampling(max_tokens=4000))
    await anext(stream)
    await stream.aclose()
    await check_it_rests(passes)


async def test_a_cancelled_prompt_does_not_disturb_the_others(
    model: TransformersLanguageModel, reference: Reference
) -> None:
    doomed = asyncio.create_task(model.complete(prompts(QUESTIONS[2:3]), Sampling(max_tokens=4000)))
    kept = asyncio.create_task(model.complete(prompts(QUESTIONS[:1]), Sampling(max_tokens=200)))
    await asyncio.sleep(0.15)
    doomed.cancel()
    [completion] = await kept
    assert completion.text == reference(model.renderer.render(prompts(QUESTIONS)[0]).token_ids, 200)


async def forward_passes(model: TransformersLanguageModel) -> list[None]:
    """One entry for each forward pass from now on."""
    decoder, _ = await asyncio.to_thread(model._loaded)
    passes: list[None] = []
    decoder._model.register_forward_pre_hook(lambda module, arguments: passes.append(None))
    return passes


async def check_it_rests(passes: list[None]) -> None:
    await asyncio.sleep(0.1)
    seen = len(passes)
    await asyncio.sleep(0.2)
    assert seen > 0
    assert len(passes) == seen


async def test_latents_that_equal_embeddings_complete_like_the_text(
    model: TransformersLanguageModel, reference: Reference, reference_model: Any
) -> None:
    passage = "The ice closed the bay for forty days."
    ids = model.tokenizer.ids_of([passage])[0]
    states = reference_model.get_input_embeddings()(torch.tensor(ids)).detach()
    message = ChatMessage("user", ("Read this: ", LatentPart(states.numpy(), "chunk-1"), "\nHow long?"))
    rendered = model.renderer.render(Prompt((message,)))
    assert rendered.has_latents
    assert rendered.length == len(rendered.token_ids) + len(ids)
    [mixed, plain] = await model.complete([Prompt((message,)), prompts(QUESTIONS)[0]], SHORT)
    before, _, after = rendered.segments
    assert isinstance(before, tuple)
    assert isinstance(after, tuple)
    assert mixed.text == reference([*before, *ids, *after], 24)
    assert plain.text == reference(model.renderer.render(prompts(QUESTIONS)[0]).token_ids, 24)
    assert mixed.usage.prompt_tokens == rendered.length


async def test_latents_of_another_width_are_refused(model: TransformersLanguageModel) -> None:
    message = ChatMessage("user", (LatentPart(torch.zeros(3, 64), "chunk-1"),))
    with pytest.raises(UsageError, match=r"\(3, 64\).*\(tokens, 128\)") as caught:
        await model.complete([Prompt((message,))])
    assert caught.value.subject == "chunk-1"


async def test_questions_over_memories_complete_like_questions_behind_the_text(
    model: TransformersLanguageModel, reference: Reference, reference_model: Any
) -> None:
    first = FullMemory(reference_model, model.tokenizer.ids_of([TRAINING_TEXT])[0], "first")
    second = FullMemory(reference_model, model.tokenizer.ids_of([TRAINING_TEXT[100:400]])[0], "second")
    asked = [
        Prompt(prompt.messages, memory)
        for prompt, memory in zip(prompts(QUESTIONS), [first, second, first, None], strict=True)
    ]
    completions = await model.complete(asked, SHORT)
    for prompt, completion in zip(asked, completions, strict=True):
        head = prompt.memory.ids if isinstance(prompt.memory, FullMemory) else []
        assert completion.text == reference(head + model.renderer.render(prompt).token_ids, 24)
        assert completion.usage.cached_tokens == len(head)
        assert completion.usage.prompt_tokens == len(head) + model.renderer.render(prompt).length


async def test_a_memory_is_read_in_place_and_not_changed(
    model: TransformersLanguageModel, reference_model: Any
) -> None:
    memory = FullMemory(reference_model, model.tokenizer.ids_of([TRAINING_TEXT * 8])[0], "long")
    before = [(keys.clone(), values.clone()) for keys, values in memory.states]
    asked = [Prompt(prompt.messages, memory) for prompt in prompts(QUESTIONS)]
    await model.complete(asked, SHORT)  # warm
    size = sum(keys.nbytes + values.nbytes for keys, values in memory.states)
    with torch.profiler.profile(profile_memory=True) as profile:
        await model.complete(asked, SHORT)
    largest = max((event.self_cpu_memory_usage for event in profile.key_averages()), default=0)
    for (keys, values), (old_keys, old_values) in zip(memory.states, before, strict=True):
        assert torch.equal(keys, old_keys)
        assert torch.equal(values, old_values)
    assert largest < size


async def test_a_memory_of_another_model_is_refused(model: TransformersLanguageModel, reference_model: Any) -> None:
    memory = FullMemory(reference_model, [1, 2, 3], "one layer")
    memory.states = memory.states[:1]
    with pytest.raises(UsageError, match=r"1 layers, model .* has 2"):
        await model.complete([Prompt(prompts(QUESTIONS)[0].messages, memory)])
    half = FullMemory(reference_model, [1, 2, 3], "half")
    half.states = [(keys.half(), values.half()) for keys, values in half.states]
    with pytest.raises(UsageError, match=r"float16.*float32"):
        await model.complete([Prompt(prompts(QUESTIONS)[0].messages, half)])


async def test_a_model_without_chat_template_gets_plain_turns_and_says_so(tmp_path: Path) -> None:
    model = TransformersLanguageModel(str(save_causal_lm(tmp_path, "llama", chat_template=None)))
    assert len(model.notes) == 1
    assert "no chat template" in model.notes[0]
    [completion] = await model.complete([Prompt.of("who?", system="Answer.")], SHORT)
    assert completion.usage.completion_tokens == 24
    await model.close()


async def test_a_failing_forward_pass_reaches_its_callers_and_the_next_call_works(
    model: TransformersLanguageModel,
) -> None:
    [before] = await model.complete([Prompt.of("who?")], SHORT)
    assert model._running is not None
    inner = model._running[0]._model
    inner.model.layers[1].register_forward_pre_hook(_broken := _BreakOnce())
    with pytest.raises(BackendError, match="failed: broken on purpose"):
        await model.complete([Prompt.of("who?")], SHORT)
    assert _broken.calls == 1
    assert await model.complete([Prompt.of("who?")], SHORT) == [before]


class _BreakOnce:
    calls = 0

    def __call__(self, module: Any, arguments: Any) -> None:
        self.calls += 1
        if self.calls == 1:
            raise RuntimeError("broken on purpose")


async def test_after_closing_it_refuses_work_and_what_was_under_way_fails(tiny_qwen2: Path) -> None:
    model = TransformersLanguageModel(str(tiny_qwen2))
    task = asyncio.create_task(model.complete([Prompt.of("long")], Sampling(max_tokens=4000)))
    await asyncio.sleep(0)
    await forward_passes(model)
    await asyncio.sleep(0.05)
    await model.close()
    with pytest.raises(BackendError, match="was closed"):
        await task
    with pytest.raises(UsageError, match="is closed"):
        await model.complete([Prompt.of("again")])


async def test_what_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="not a language model"):
        await TransformersLanguageModel(str(tmp_path)).complete([Prompt.of("who?")])
    with pytest.raises(ConfigurationError, match=r"generator\.model is empty"):
        TransformersLanguageModel("")


def test_one_model_serves_several_event_loops(tiny_qwen2: Path) -> None:
    model = TransformersLanguageModel(str(tiny_qwen2))
    first = asyncio.run(model.complete(prompts(QUESTIONS), SHORT))
    assert asyncio.run(model.complete(prompts(QUESTIONS), SHORT)) == first
    asyncio.run(model.close())
