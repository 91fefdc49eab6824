"""What MemoRAG and MemoRAGLite have in common: memorise a text, recall clues from it, retrieve with them, answer."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from lightrag.compat.arguments import Asked, told_apart
from lightrag.compat.cache_folder import Memorised, load_folder, save_folder
from lightrag.compat.evidence import TextGenerator, Window, fitting, one_text
from lightrag.compat.folders import ensure_folder
from lightrag.compat.memory import ANSWER_TOKENS, Memory, check_characters, check_context, check_length
from lightrag.compat.passages import Passages
from lightrag.compat.prompt_book import PromptBook
from lightrag.compat.readers import text_identity
from lightrag.documents import detect_language
from lightrag.documents.chunker import MIN_TOKENS
from lightrag.errors import UsageError
from lightrag.memory.prompts import fill_template
from lightrag.models.base import Embedder, LanguageModel

_LOG = logging.getLogger(__name__)

_SUMMARY_PASSAGES = 8
"""Times ``ret_hit``: passages to summarise where no main points were recalled."""

_FROM_MEMORY = {
    "en": "An answer from memory, to be checked against the other passages: ",
    "zh": "凭记忆得出的答案，请与其他段落核对：",
}


class Pipeline:
    """Blocking calls; questions may be asked from several threads, also inside a running event loop.

    Args:
        memory: reads texts and recalls from them.
        embedder: finds passages.
        generator: writes answers; ``None`` lets the memory's model do it.
        ret_hit: passages that each clue may bring.
        retrieval_chunk_size: longest passage, in tokens of the embedder.

    Raises:
        UsageError: a number is not positive, or the generator has no ``generate``.
    """

    def __init__(
        self,
        memory: Memory,
        embedder: Embedder,
        generator: TextGenerator | None,
        *,
        ret_hit: int,
        retrieval_chunk_size: int,
    ) -> None:
        if ret_hit < 1:
            raise UsageError(f"ret_hit must be at least 1, got {ret_hit}", subject="ret_hit")
        if retrieval_chunk_size < MIN_TOKENS:
            raise UsageError(
                f"retrieval_chunk_size must be at least {MIN_TOKENS}, got {retrieval_chunk_size}",
                subject="retrieval_chunk_size",
            )
        if generator is not None and not isinstance(generator, TextGenerator):
            raise UsageError(f"a generator needs a method generate(prompt, max_new_tokens=…); {generator!r} has none")
        self.mem_model = memory
        """The memory, for recalling by hand."""
        self.gen_model: TextGenerator = memory if generator is None else generator
        """What writes the answers."""
        self.retriever = embedder
        self._hits = ret_hit
        self._chunk_tokens = retrieval_chunk_size
        self._memorised: Memorised | None = None

    @property
    def prompts(self) -> PromptBook:
        """Prompts by key; set an entry to replace it."""
        return self.mem_model.prompts

    def memorize(self, context: str, save_dir: str | Path | None = None, print_stats: bool = False) -> None:
        """Read a text and index its passages; it takes the place of the one before.

        Args:
            context: the text.
            save_dir: folder to keep it in, for :meth:`load`.
            print_stats: print language, length, size of the memory and number of passages.

        Raises:
            UsageError: the text is empty.
            LimitError: it is longer than the memory model can take.
            BackendError: the folder cannot be written.
        """
        if save_dir is not None:
            ensure_folder(Path(save_dir).expanduser())
        memorised = self._hold(self._read(context))
        if print_stats:
            print(stats(memorised))
        if save_dir is not None:
            self.save(save_dir)

    def save(self, save_dir: str | Path) -> None:
        """Keep what was memorised in a folder: ``memory.bin/``, ``index.bin``, ``chunks.json``, ``memorag.json``.

        Raises:
            UsageError: nothing was memorised.
            BackendError: the folder cannot be written.
        """
        save_folder(self._held(), self.mem_model.reader, Path(save_dir).expanduser())

    def load(self, save_dir: str | Path, print_stats: bool = False) -> None:
        """Take up what was kept in a folder, by this library or, with a beacon memory, by the published system.

        Raises:
            NotFoundError: there is nothing.
            ArtifactError: files are damaged, do not belong together, or another model made the memory.
        """
        folder = Path(save_dir).expanduser()
        memorised = self._hold(load_folder(folder, self.mem_model.reader, self.retriever))
        if print_stats:
            print(stats(memorised))

    def reset(self) -> None:
        """Forget what was memorised."""
        self._memorised = None
        self.mem_model.reset()

    def __call__(
        self,
        *texts: str,
        context: str | None = None,
        query: str | None = None,
        task_type: str = "memorag",
        prompt_template: str | None = None,
        max_new_tokens: int = ANSWER_TOKENS,
        reset_each_call: bool = False,
        use_memory_answer: bool = False,
    ) -> str:
        """Answer a question, or summarise.

        Args:
            texts: ``(context, query)``, ``(context)`` with ``task_type="summarize"``, or ``(query)`` once a text is
                memorised.
            context: the text; memorised if it is not the one that already is.
            query: the question; with ``summarize``, what to look at besides the main points.
            task_type: ``memorag`` recalls clues, retrieves with them and answers; ``qa`` answers from memory alone;
                ``summarize`` recalls the main points, retrieves with them and summarises.
            prompt_template: asks the generator instead of the prompt ``qa_gen`` or ``sum_gen``; with ``{context}`` and,
                for questions, ``{input}``.
            max_new_tokens: longest answer.
            reset_each_call: memorise the context anew even if it is memorised.
            use_memory_answer: also answer from memory, search with that, and show it to the generator.

        Returns:
            The answer.

        Raises:
            UsageError: a text is missing, empty, or in the wrong place; the task is unknown; a placeholder is missing.
            LimitError: the generator's window has no room for any passage.
            BackendError: a model failed.
        """
        before = None if reset_each_call else self._memorised
        known, characters = (before.identity, before.characters) if before else ("", 0)
        asked = told_apart(texts, context=context, query=query, task=task_type, memorised=known, characters=characters)
        check_characters("question", asked.query)
        check_length(max_new_tokens)
        if prompt_template is not None and "{context}" not in prompt_template:
            raise UsageError("prompt_template needs the placeholder {context}: the passages go there")
        if asked.context is not None and text_identity(asked.context) != known:
            held = self._hold(self._read(asked.context))
        else:
            held = self._held()
        if asked.task == "qa":
            return self.mem_model.answer_over(held.remembered, asked.query, max_new_tokens)
        prompts = self.prompts.of(held.remembered.language, asked.query)
        searched, recalled = self._searched(asked, held, use_memory_answer)
        template = prompt_template or (prompts.sum_gen if asked.task == "summarize" else prompts.qa_gen)
        note = _note(recalled, held.remembered.language)
        return self._generated(held, template, asked.query, searched, note, max_new_tokens)

    def _searched(self, asked: Asked, held: Memorised, use_memory_answer: bool) -> tuple[list[str], str]:
        """What to search with, the most important first, and the answer from memory."""
        if asked.task == "summarize":
            return [asked.query, *self.mem_model.key_points(held.remembered)], ""
        recalled = self.mem_model.recollect(held.remembered, asked.query, answer=use_memory_answer)
        return [asked.query, *recalled.clues, recalled.answer], recalled.answer

    def _generated(
        self, held: Memorised, template: str, query: str, searched: Sequence[str], note: str, max_new_tokens: int
    ) -> str:
        rows = held.passages.find(searched, self._hits)
        if not rows:
            rows = held.passages.evenly(_SUMMARY_PASSAGES * self._hits)
            _LOG.warning(
                "the memory recalled no main points: summarising %d passages from all over the text", len(rows)
            )
        frame = fill_template(template, question=query) + note
        found = [held.passages.chunks[row] for row in rows]
        evidence = fitting(found, rows, self._window(), frame, max_new_tokens)
        passages = "\n\n".join(chunk.text for chunk in evidence)
        prompt = fill_template(template, context=passages + note, question=query)
        if self.gen_model is self.mem_model:
            return self.mem_model.generate_over(held.remembered, [prompt], max_new_tokens)[0]
        return one_text(self.gen_model.generate(prompt, max_new_tokens=max_new_tokens))

    def _retrieve(self, clues: Sequence[str]) -> list[str]:
        """Passages that resemble any of the clues, ``ret_hit`` each, as texts in the order of the corpus.

        Raises:
            UsageError: nothing was memorised, or ``clues`` is one text.
        """
        if isinstance(clues, str):
            raise UsageError("_retrieve takes a list of clues, not one text: split it, or put it into a list")
        passages = self._held().passages
        return [passages.chunks[row].text for row in sorted(passages.find(clues, self._hits))]

    def _window(self) -> Window | None:
        generator = self.gen_model
        if isinstance(generator, Memory):
            tokens = generator.reader.window
            return None if tokens is None else Window(tokens, generator.reader.tokenizer)
        model = getattr(generator, "language_model", None)
        return Window(model.context_tokens, model.tokenizer) if isinstance(model, LanguageModel) else None

    def _held(self) -> Memorised:
        if self._memorised is None:
            raise UsageError("nothing was memorised: call memorize(context) or load(folder) first")
        return self._memorised

    def _read(self, context: str) -> Memorised:
        check_context(context)
        # What costs less comes first, so that what is wrong with it is known before the text is read.
        language = detect_language(context).code
        passages = Passages.of(context, self.retriever, max_tokens=self._chunk_tokens, language=language)
        return Memorised(self.mem_model.read(context), passages, text_identity(context))

    def _hold(self, memorised: Memorised) -> Memorised:
        self._memorised = memorised
        self.mem_model.hold(memorised.remembered)
        return memorised


def _note(answer: str, language: str) -> str:
    """A further passage that holds the answer from memory; nothing where there is none."""
    return "\n\n" + _FROM_MEMORY["zh" if language == "zh" else "en"] + answer if answer else ""


def stats(memorised: Memorised) -> str:
    """Describe what is memorised, for people."""
    remembered = memorised.remembered
    rows = {
        "language": remembered.language,
        "context": f"{remembered.source_tokens:,} tokens",
        "memory": str(remembered),
        "chunks": f"{len(memorised.passages.chunks):,}",
    }
    return "\n".join(f"{name + ':':<10}{value}" for name, value in rows.items())


__all__ = ["Pipeline", "stats"]
