"""Markdown: its text without the markup; headings become sections, lists and tables stay readable line by line.

Parsed a stretch at a time, because the parser's tokens take a hundred times the memory of their text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lightrag.documents.assembly import Parsed, TextBuilder
from lightrag.documents.blocks import BlockWriter
from lightrag.documents.encoding import decode
from lightrag.documents.frontmatter import split_front_matter
from lightrag.documents.html import html_to_text

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

_STRETCH_CHARS = 200_000
_MAX_NESTING = 100
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r"#{1,6}[ \t]")
_DEFINITION = re.compile(r"^ {0,3}\[([^\[\]\n]{1,999})\]:[ \t]*\S", re.MULTILINE)
_BREAK_TAG = re.compile(r"<br\s*/?>", re.IGNORECASE)


def parse_markdown(data: bytes, source: str) -> Parsed:
    """Read a Markdown file (CommonMark with tables and strike-through; YAML front matter becomes metadata).

    Raises:
        DocumentError: its encoding cannot be told.
    """
    text = decode(data, source).replace("\r\n", "\n").replace("\r", "\n")
    matter, text = split_front_matter(text)
    builder = TextBuilder()
    parser = _parser()
    # Link definitions may stand anywhere; stretches must know those of all the others.
    references = {_normal_label(label): {"title": "", "href": ""} for label in _DEFINITION.findall(text)}
    for stretch in _stretches(text):
        tokens = parser.parse(stretch, {"references": dict(references)})
        if max((token.level for token in tokens), default=0) < _MAX_NESTING - 1:
            _write(tokens, BlockWriter(builder))
        else:  # the parser drops what nests deeper, so this stretch keeps its markup instead
            builder.block(stretch)
    return builder.build(title=matter.title, metadata=matter.metadata, language=matter.language)


def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"maxNesting": _MAX_NESTING}).enable(["table", "strikethrough"])


def _normal_label(label: str) -> str:
    from markdown_it.common.utils import normalizeReference

    return normalizeReference(label)


def _stretches(text: str) -> Iterator[str]:
    """Cut a long text before headings, or else at blank lines, never inside fenced code."""
    start = 0
    fence = ""
    position = 0
    for line in text.splitlines(keepends=True) if len(text) > _STRETCH_CHARS else ():
        size = position - start
        opens = _FENCE.match(line)
        if opens and (not fence or (opens[1].startswith(fence) and not line.strip(" \n" + fence[0]))):
            fence = "" if fence else opens[1]
        elif not fence and size > _STRETCH_CHARS and _is_seam(text, position, line, size):
            yield text[start:position]
            start = position
        position += len(line)
    yield text[start:]


def _is_seam(text: str, position: int, line: str, size: int) -> bool:
    after_blank = text[max(0, position - 2) : position] == "\n\n"
    return bool(_HEADING.match(line)) or (after_blank and size > 2 * _STRETCH_CHARS and line[:1] not in " \t\n>-+*|")


def _write(tokens: Sequence[Token], writer: BlockWriter) -> None:
    position = 0
    while position < len(tokens):
        token = tokens[position]
        position += 1
        match token.type:
            case "heading_open":
                writer.heading(_plain(tokens[position]), int(token.tag[1]))
                position += 1
            case "table_open":
                position = _write_table(tokens, position, writer)
            case _:
                _write_token(token, writer)


def _write_token(token: Token, writer: BlockWriter) -> None:
    match token.type:
        case "bullet_list_open":
            writer.open_list()
        case "ordered_list_open":
            writer.open_list(int(token.attrs.get("start", 1)))
        case "bullet_list_close" | "ordered_list_close":
            writer.close_list()
        case "list_item_open":
            writer.open_item()
        case "inline":
            writer.block(_plain(token))
        case "fence" | "code_block":
            writer.block(token.content.rstrip("\n"))
        case "html_block":
            writer.block(html_to_text(token.content))


def _write_table(tokens: Sequence[Token], position: int, writer: BlockWriter) -> int:
    """Write the table whose tokens start at ``position`` and return the position behind it."""
    rows: list[list[str]] = []
    while tokens[position].type != "table_close":
        if tokens[position].type == "tr_open":
            rows.append([])
        elif tokens[position].type == "inline":
            rows[-1].append(_plain(tokens[position]))
        position += 1
    writer.table(rows)
    return position + 1


def _plain(token: Token) -> str:
    """Return the text of an inline token: links and emphasis without marks, images by their description."""
    parts: list[str] = []
    for child in token.children or ():
        if child.type in ("softbreak", "hardbreak"):
            parts.append("\n")
        elif child.type == "html_inline":
            parts.append("\n" if _BREAK_TAG.match(child.content) else "")
        elif child.type == "image":
            parts.append(_plain(child) if child.children else child.content)
        else:
            parts.append(child.content)
    return "".join(parts)


__all__ = ["parse_markdown"]
