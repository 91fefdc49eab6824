"""What a language model is asked around a memory, in English and Chinese, under the keys that MemoRAG users know.

Knows nothing of models. Placeholders are replaced literally in one pass, so braces in documents and questions are safe
and inserted text is never read as a template.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Literal

from lightrag.errors import UsageError

PromptKey = Literal["context", "gist", "span", "sur", "qa", "sum", "qa_gen", "sum_gen", "acknowledge"]

_PLACEHOLDER = re.compile(r"\{(context|question|input)\}")


@dataclass(frozen=True, slots=True)
class PromptSet:
    """One language's prompts. Replace single ones with :meth:`with_replaced`."""

    context: str
    """Presents the text to be memorised; holds ``{context}``."""
    gist: str
    """Asks for a short account of ``{context}``."""
    span: str
    """Asks memory for passages that bear on ``{question}``, one per line."""
    sur: str
    """Asks memory for more searchable questions behind ``{question}``, one per line."""
    qa: str
    """Asks memory to answer ``{question}`` directly."""
    sum: str
    """Asks memory for the key points of everything, one per line."""
    qa_gen: str
    """Asks for an answer to ``{input}`` from retrieved ``{context}``."""
    sum_gen: str
    """Asks for a summary of retrieved ``{context}``."""
    acknowledge: str
    """What the model is taken to have said after reading ``context``."""

    def fill(self, key: PromptKey, *, context: str = "", question: str = "") -> str:
        """Fill one prompt; ``{input}`` is another name for the question, as in MemoRAG's ``qa_gen``."""
        return fill_template(getattr(self, key), context=context, question=question)

    def with_replaced(self, prompts: Mapping[str, str]) -> PromptSet:
        """Return a copy with some prompts replaced.

        Raises:
            UsageError: a key is not the name of a prompt.
        """
        known = {field.name for field in fields(self)}
        unknown = sorted(set(prompts) - known)
        if unknown:
            raise UsageError(f"no such prompt: {unknown!r}; the prompts are {sorted(known)!r}")
        return replace(self, **dict(prompts))


def fill_template(template: str, *, context: str = "", question: str = "") -> str:
    """Replace ``{context}``, ``{question}`` and ``{input}`` literally, each where it stands."""
    values = {"context": context, "question": question, "input": question}
    return _PLACEHOLDER.sub(lambda match: values[match.group(1)], template)


ENGLISH = PromptSet(
    context=(
        "Below is a long text. Read all of it and keep it in mind: afterwards you will be asked to recall passages, to "
        "suggest search questions, to answer and to summarise, from this text alone.\n\n{context}"
    ),
    gist=(
        "Condense the text below. Keep every name, number, date, decision and the reason given for it; leave out "
        "repetition and filler. Write plain prose without headings or lists, and add nothing that is not in the text."
        "\n\n{context}"
    ),
    span=(
        "Which statements of the text you read bear on this question, directly or through another fact?\n"
        "Question: {question}\n"
        "Write each as one line in the wording of the text as you remember it, most useful first. No numbering and no "
        "comments."
    ),
    sur=(
        "The question below may not use the words of the text.\n"
        "Question: {question}\n"
        "Write up to five short questions that name the people, things, places and times of the text one would have to "
        "look up to answer it. One per line, no numbering and no comments."
    ),
    qa=(
        "Answer from the text you read. If it does not say, reply that it does not say.\n"
        "Question: {question}\n"
        "Reply with the answer only."
    ),
    sum=(
        "List the main points of the text you read, in its order, each as one line that could be looked up in the "
        "text. No numbering and no comments."
    ),
    qa_gen=(
        "Answer the question from the passages. Use nothing else; if the passages disagree, trust the later one and "
        "say so; if they do not hold the answer, say that.\n\n"
        "Passages:\n{context}\n\n"
        "Question: {input}\n"
        "Be brief and exact."
    ),
    sum_gen=(
        "Summarise the passages in connected prose. Cover every main point once, keep names, numbers and dates, and "
        "add nothing.\n\nPassages:\n{context}"
    ),
    acknowledge="I have read the text and will answer from it.",
)

CHINESE = PromptSet(
    context="下面是一篇长文。请通读并记住全文：之后会请你根据这篇文章回忆段落、提出检索问题、回答问题和总结。\n\n{context}",
    gist=(
        "请压缩下面的文字。保留所有人名、数字、日期、决定及其理由，删去重复和客套。"
        "用中文写成连贯的段落，不用标题和列表，不添加原文没有的内容。\n\n{context}"
    ),
    span=(
        "你读过的文章中，哪些陈述与下面的问题直接或间接有关？\n问题：{question}\n"
        "按你记得的原文措辞用中文写出，每行一条，最有用的在前。不要编号，不要评论。"
    ),
    sur=(
        "下面的问题可能没有使用文章的用语。\n问题：{question}\n"
        "请用中文写出最多五个简短的问题，点明要回答它需要在文章中查找的人物、事物、地点和时间。"
        "每行一个，不要编号，不要评论。"
    ),
    qa="请根据你读过的文章回答。文章没有提到时，请说明没有提到。\n问题：{question}\n只用中文写出答案。",
    sum="请按文章的顺序列出要点，每行一条，每条都应能在文中查到。用中文，不要编号，不要评论。",
    qa_gen=(
        "请只根据下面的段落回答问题；段落互相矛盾时以较晚的为准并说明；段落中没有答案时请说明。\n\n"
        "段落：\n{context}\n\n问题：{input}\n请用中文简明准确地回答。"
    ),
    sum_gen="请把下面的段落总结成连贯的文字。每个要点只写一次，保留人名、数字和日期，不添加内容，用中文。\n\n段落：\n{context}",
    acknowledge="我已读完全文，将根据它来回答。",
)


def prompts_for(language: str) -> PromptSet:
    """Pick the prompts for a language code; everything but Chinese is asked in English, which models follow best."""
    return CHINESE if language.lower().split("-")[0] == "zh" else ENGLISH


__all__ = ["CHINESE", "ENGLISH", "PromptKey", "PromptSet", "fill_template", "prompts_for"]
