"""Gists by a pool of vLLM engines through ``ray.data.llm``, for jobs whose generator is ``vllm``.

Documents are read and embedded first, by the usual stations. Then prompts stream from workers to engines, and answers
from engines to workers, which put gists into staging. What is asked, and what is made of answers, is said by
:class:`lightrag.ingestion.gist_prompts.GistPrompts`; here it is only placed.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import pyarrow as pa
from ray.data import DataContext

from lightrag.config import Settings
from lightrag.errors import ConfigurationError
from lightrag.ingestion.gist_prompts import GistPrompts
from lightrag.ingestion.line import Line, Receipt, Unit
from lightrag.ingestion.states import DocumentState, StageName
from lightrag.models import open_language_model
from lightrag.models.vllm_model import VllmLanguageModel
from pipelines.attempts import RETRIES, count_attempts, require_patience
from pipelines.stations import Pool, blocks, configure, results, run_on_ray, through

BATCH_PROMPTS: Final = 64
"""Prompts that an engine is given at a time; it works on several batches at once."""
_HELPERS: Final[Pool[StageName]] = Pool(("gist",), 1, cpus=0.25)
"""Workers that write prompts, and those that read answers: engines need many times as long."""
_PROMPTS: Final = pa.schema(
    {
        "task": pa.string(),
        "key": pa.string(),
        "prompts": pa.int64(),
        "tokenized_prompt": pa.list_(pa.int64()),
        "sampling_params": pa.struct({"max_tokens": pa.int64(), "temperature": pa.float64()}),
    }
)
"""One row is one prompt of a task; ``prompts`` says how many the task has."""


def run_with_engines(units: Sequence[Unit], line: Line, pools: Sequence[Pool[StageName]]) -> Iterator[Receipt]:
    """Bring units through all stages on the connected cluster, gists by engines; receipts come as units finish.

    Args:
        units: what is to be done.
        line: of the job.
        pools: one per stage. The last one finishes what engines have nothing to say about, and starts none for it.

    Raises:
        BackendError: a store, a model or an engine failed; what was staged stays.
    """
    *before, last = pools
    waiting: set[str] = set()
    settled: set[str] = set()
    for receipt in run_on_ray(units, line, before):
        waiting.update(receipt.done.values())
        settled.update(receipt.done, receipt.failed)
        yield replace(receipt, done={}, chunks=0, tokens=0)  # counted when they are done
    for unit in units:
        # What the corpus holds embedded has gone through unchanged, and is still where it was.
        if states := tuple(state for state in unit.states if state.document_id not in settled):
            waiting.add(replace(unit, states=states).to_json())
    for task, receipt in _gisted(sorted(waiting), line) if waiting else ():
        waiting.discard(task)
        yield replace(receipt, bytes=0)
    if waiting:
        # Documents without a word to condense, and those whose answers came apart on their way.
        for receipt in run_on_ray([_unit(task, line) for task in sorted(waiting)], line, [last]):
            yield replace(receipt, bytes=0)


def engine_cpus(settings: Settings) -> float:
    """Logical CPUs that engines and those who serve them claim."""
    return settings.ingest.gist_workers + 4 * _HELPERS.cpus


def _gisted(tasks: Sequence[str], line: Line) -> Iterator[tuple[str, Receipt]]:
    from ray.data.llm import build_processor

    configure(DataContext.get_current())
    attempts = count_attempts()
    prompts = through(blocks(tasks), _HELPERS, _Asker, (attempts, line))
    # Without a claim of their own these two steps would claim a CPU each, and starve where engines have taken all.
    small = {"num_cpus": _HELPERS.cpus}
    processor = build_processor(
        _engines(line.settings),
        preprocess=_as_they_are,
        postprocess=_answer,
        preprocess_map_kwargs=small,
        postprocess_map_kwargs=small,
    )
    for name in processor.list_stage_names():
        # Ray would give a prompt that ends its engine to the next one for ever.
        processor.get_stage_by_name(name).map_batches_kwargs["max_task_retries"] = RETRIES
    for text in results(through(processor(prompts), _HELPERS, _Finisher, (line,))):
        task, receipt = json.loads(text)
        yield task, Receipt.from_json(receipt)


def _engines(settings: Settings) -> Any:
    """Describe the engines as :class:`VllmLanguageModel` starts one; prompts come rendered, and answers leave so."""
    from ray.data.llm import vLLMEngineProcessorConfig

    model, ingest = _model(settings), settings.ingest
    dtype = (model.shape.dtype or "auto") if settings.generator.dtype == "auto" else settings.generator.dtype
    arguments = {"max_model_len": model.context_tokens, **settings.generator.engine, "dtype": dtype}
    return vLLMEngineProcessorConfig(
        model_source=str(model.folder),
        engine_kwargs=arguments,
        batch_size=BATCH_PROMPTS,
        concurrency=(ingest.gist_workers, ingest.gist_workers),
        chat_template_stage=False,
        tokenize_stage=False,
        detokenize_stage=False,
        log_engine_metrics=False,
        placement_group_config={"bundles": [{"CPU": 1, **({"GPU": ingest.gist_gpus} if ingest.gist_gpus else {})}]},
        runtime_env={"env_vars": {"VLLM_NO_USAGE_STATS": "1"}},
    )


def _model(settings: Settings) -> VllmLanguageModel:
    """The model of the engines, to render and to read; it is not started."""
    model = open_language_model(settings.generator)
    if not isinstance(model, VllmLanguageModel):
        raise ConfigurationError(
            f"engines write gists for generator.backend 'vllm', not {settings.generator.backend!r}"
        )
    return model


def _as_they_are(row: dict[str, Any]) -> dict[str, Any]:
    return row


def _answer(row: dict[str, Any]) -> dict[str, Any]:
    return {"task": row["task"], "key": row["key"], "prompts": row["prompts"], "tokens": row["generated_tokens"]}


class _Asker:
    """Writes the prompts of tasks."""

    def __init__(self, attempts: Any, line: Line) -> None:
        self._attempts = attempts
        self._line = line
        self._prompts = GistPrompts(line, _model(line.settings))

    def __call__(self, batch: pa.Table) -> pa.Table:
        require_patience(self._attempts, "gist", batch.column("unit"))
        rows = []
        for task in batch.column("unit").to_pylist():
            asked = self._prompts.ask(_load(task, self._line))
            rows += [
                {
                    "task": task,
                    "key": prompt.key,
                    "prompts": len(asked),
                    "tokenized_prompt": prompt.token_ids,
                    "sampling_params": {"max_tokens": prompt.max_tokens, "temperature": 0.0},
                }
                for prompt in asked
            ]
        return pa.Table.from_pylist(rows, schema=_PROMPTS)


class _Finisher:
    """Finishes tasks whose answers are all there; whoever made the tasks does the others."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._prompts = GistPrompts(line, _model(line.settings))

    def __call__(self, batch: pa.Table) -> pa.Table:
        answers: dict[str, dict[str, list[int]]] = defaultdict(dict)
        needed: dict[str, int] = {}
        for row in batch.to_pylist():
            answers[row["task"]][row["key"]] = row["tokens"]
            needed[row["task"]] = row["prompts"]
        receipts = [
            json.dumps([task, self._prompts.finish(_load(task, self._line), answers[task]).to_json()])
            for task, count in needed.items()
            if len(answers[task]) == count
        ]
        return pa.table({"receipt": pa.array(receipts, pa.string())})


def _load(task: str, line: Line) -> list[DocumentState]:
    """The documents of a task: those of an object in staging, or of a unit that the corpus holds embedded."""
    if task.startswith("{"):
        return line.station("gist").load(Unit.from_json(task))
    return line.staging.load(task)


def _unit(task: str, line: Line) -> Unit:
    if task.startswith("{"):
        return Unit.from_json(task)
    states = line.staging.load(task)
    return Unit(tuple(DocumentState(state.item, state.document_id, state.keys) for state in states), task)


__all__ = ["BATCH_PROMPTS", "engine_cpus", "run_with_engines"]
