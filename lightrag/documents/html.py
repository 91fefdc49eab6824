"""HTML: what a reader of the page sees, without scripts, styles and navigation; headings become sections."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import lightrag.errors as errors
from lightrag.documents.assembly import Parsed, TextBuilder
from lightrag.documents.blocks import BlockWriter
from lightrag.documents.encoding import decode

if TYPE_CHECKING:
    from selectolax.lexbor import LexborHTMLParser, LexborNode


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_LEFT_OUT = _names(
    "script style template noscript nav svg math iframe object embed canvas audio video button select "
    "textarea input datalist head dialog menu"
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS = _names(
    "address article aside blockquote body center dd details div dl dt fieldset figcaption figure footer form "
    "header hr html legend main p section summary caption ul ol table thead tbody tfoot tr td th li pre "
    "hgroup search"
) | frozenset(_HEADINGS)
_PAGE_PARTS = "table, h1, h2, h3, h4"
_LAYOUT_LEVELS = 4
_LINE_BREAK = "\v"  # white space to HTML, but never in a page: normalised to a line end like the rest
_TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9]*)")
_CLOSE_THEMSELVES = _names(
    "area base br col embed hr img input link meta param source track wbr p li td th tr dt dd option thead "
    "tbody tfoot colgroup optgroup"
)
_MAX_DEPTH = 10_000
_SPACE = re.compile(r"[ \t\n\r\f]+")
_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.IGNORECASE)
_XML_ENCODING = re.compile(rb"<\?xml[^>]{0,100}?encoding\s*=\s*[\"']([\w.:-]{1,40})", re.IGNORECASE)
_HEAD_BYTES = 4_096


def parse_html(data: bytes, source: str) -> Parsed:
    """Read a web page.

    Raises:
        DocumentError: its encoding cannot be told.
    """
    head = data[:_HEAD_BYTES]
    named = _CHARSET.search(head) or _XML_ENCODING.search(head)
    text = decode(data, source, declared=named[1].decode("ascii") if named else "")
    _refuse_deep_nesting(text, source)
    tree = _tree(text)
    builder = TextBuilder()
    if tree.body is not None:
        _Page(BlockWriter(builder)).walk(tree.body)
    title = tree.css_first("head > title")
    root = tree.root
    language = (root.attributes.get("lang") or "") if root is not None else ""
    return builder.build(title=title.text() if title else "", metadata=_metadata(tree), language=language[:2].lower())


def _refuse_deep_nesting(text: str, source: str) -> None:
    """Parsers of HTML take time in the square of the depth, so its depth is estimated before."""
    depth = 0
    for tag in _TAG.finditer(text):
        if tag[2].lower() not in _CLOSE_THEMSELVES:
            depth += -1 if tag[1] else 1
            if depth > _MAX_DEPTH:
                raise errors.DocumentError(
                    f"{source!r} nests its elements more than {_MAX_DEPTH:,} deep, which no page does: repair it or "
                    "save it as plain text",
                    subject=source,
                    reason="damaged",
                )
            depth = max(depth, 0)


def html_to_text(fragment: str) -> str:
    """Return the text of a piece of HTML, its blocks separated by blank lines."""
    tree = _tree(fragment)
    builder = TextBuilder()
    if tree.body is not None:
        _Page(BlockWriter(builder)).walk(tree.body)
    return builder.build().text


def _tree(text: str) -> LexborHTMLParser:
    from selectolax.lexbor import LexborHTMLParser

    return LexborHTMLParser(text)


def _metadata(tree: LexborHTMLParser) -> dict[str, str]:
    found = {}
    for name in ("author", "description", "date"):
        node = tree.css_first(f'meta[name="{name}"]')
        content = (node.attributes.get("content") or "").strip() if node else ""
        if content:
            found[name] = content
    return found


class _Page:
    """Walks the elements of a page in order, without recursion: pages nest as deep as they like."""

    def __init__(self, writer: BlockWriter) -> None:
        self._writer = writer
        self._inline: list[str] = []
        self._rows: list[list[str]] | None = None
        """The open data table; there is one at most, what nests in its cells is text."""
        self._lists = 0
        self._layout_tables = 0
        self._preformatted = 0

    def walk(self, root: LexborNode) -> None:
        """Write everything below ``root``."""
        todo: list[LexborNode | Callable[[], None]] = [root]
        while todo:
            item = todo.pop()
            if callable(item):
                item()
                continue
            if item is not root and item.next is not None:
                todo.append(item.next)
            if item.is_text_node:
                self._inline.append(item.text_content or "")
            elif item.is_element_node and not _is_left_out(item):
                close = self._enter(item, item.tag or "")
                if close is not None:
                    todo.append(close)
                if item.first_child is not None:
                    todo.append(item.first_child)
        self._flush()

    def _enter(self, node: LexborNode, tag: str) -> Callable[[], None] | None:
        """Start an element; return what is to be done at its end."""
        if tag == "br":
            self._inline.append(_LINE_BREAK)
        elif tag == "img":
            self._inline.append(f" {node.attributes.get('alt') or ''} ")
        elif tag in _BLOCKS:
            self._flush()
            return self._enter_cell(tag) if self._rows is not None else self._enter_block(node, tag)
        return None

    def _enter_cell(self, tag: str) -> Callable[[], None]:
        assert self._rows is not None  # noqa: S101  # only called within a data table
        if tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            if not self._rows:
                self._rows.append([])
            self._rows[-1].append("")
        return self._flush

    def _enter_block(self, node: LexborNode, tag: str) -> Callable[[], None]:
        if tag in _HEADINGS:
            return partial(self._end_heading, _HEADINGS[tag])
        if tag in ("ul", "ol"):
            self._writer.open_list(_first_number(node) if tag == "ol" else None)
            self._lists += 1
            return self._end_list
        if tag == "table":
            return self._open_table(node)
        if tag == "li" and self._lists:
            self._writer.open_item()
        if tag == "pre":
            self._preformatted += 1
            return self._end_preformatted
        return self._flush

    def _open_table(self, node: LexborNode) -> Callable[[], None]:
        # A table that holds headings or tables lays out a page. Only a few levels are looked into: it costs a scan.
        if self._layout_tables < _LAYOUT_LEVELS and any(found != node for found in node.css(_PAGE_PARTS)):
            self._layout_tables += 1
            return self._end_layout
        self._rows = []
        return self._end_table

    def _end_layout(self) -> None:
        self._flush()
        self._layout_tables -= 1

    def _end_table(self) -> None:
        self._flush()
        rows, self._rows = self._rows or [], None
        self._writer.table(rows)

    def _end_list(self) -> None:
        self._flush()
        self._lists -= 1
        self._writer.close_list()

    def _end_preformatted(self) -> None:
        self._flush()
        self._preformatted -= 1

    def _end_heading(self, level: int) -> None:
        self._writer.heading(self._take(), level)

    def _flush(self) -> None:
        text = self._take()
        if self._rows and self._rows[-1]:
            self._rows[-1][-1] += " " + text
        else:
            self._writer.block(text)

    def _take(self) -> str:
        raw = "".join(self._inline)
        self._inline.clear()
        if self._preformatted:
            return raw.replace(_LINE_BREAK, "\n").strip("\n")
        lines = _SPACE.sub(" ", raw).split(_LINE_BREAK)
        return "\n".join(line.strip(" ") for line in lines).strip("\n")


def _is_left_out(node: LexborNode) -> bool:
    if node.tag in _LEFT_OUT:
        return True
    attributes = node.attributes
    return (
        "hidden" in attributes
        or attributes.get("aria-hidden") == "true"
        or attributes.get("role") in ("navigation", "search", "banner", "menu")
    )


def _first_number(node: LexborNode) -> int:
    start = node.attributes.get("start") or "1"
    return int(start) if start.isdecimal() and len(start) < 10 else 1


__all__ = ["html_to_text", "parse_html"]
