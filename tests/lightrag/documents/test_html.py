import pytest

from lightrag.documents import parse_document
from lightrag.errors import DocumentError

PAGE = """<!doctype html><html lang="en"><head><title>The  Mill</title><meta name="author" content="Ann">
<style>p{}</style><script>var x = "<p>no</p>"</script></head><body><nav><ul><li>Home</li></ul></nav>
<h1>The <em>Mill</em></h1><p>Some   text<br>next <b>bold</b>word &amp; more&shy;over</p>
<div>a<div>b</div>c</div><ul><li>one<ul><li>in<a href=x>ner</a></li></ul></li><li><p>two</p><p>more</p></li></ul>
<ol start=3><li>three<li>four</ol>
<table><caption>Sales</caption><tr><th>Year</th><th>Bales</th></tr><tr><td>1911</td><td>7<br>00</td></tr></table>
<table><tr><td><h2>Left</h2><p>column</p></td><td><table><tr><td>q</td><td>r</td></tr></table></td></tr></table>
<pre>code
  indented</pre><p hidden>no</p><!-- no -->tail<img alt="a picture"></body></html>"""


def test_a_page_reads_as_its_readers_see_it() -> None:
    parsed = parse_document(PAGE.encode(), source="mill.html")
    assert parsed.text == (
        "The Mill\n\nSome text\nnext boldword & moreover\n\na\n\nb\n\nc\n\n- one\n  - inner\n- two\n  more\n\n"
        "3. three\n4. four\n\n"
        "Sales\n\nYear | Bales\n1911 | 7 00\n\nLeft\n\ncolumn\n\nq | r\n\ncode\n  indented\n\ntail a picture"
    )
    assert (parsed.title, parsed.media_type, parsed.metadata) == ("The Mill", "text/html", {"author": "Ann"})
    assert [(s.label, s.level) for s in parsed.sections] == [("The Mill", 1), ("Left", 2)]
    assert all(parsed.text[s.start :].startswith(s.label) for s in parsed.sections)


def test_the_declared_encoding_is_used() -> None:
    body = "<html><head><meta charset='windows-1251'></head><body><p>Мир</p></body></html>"
    assert parse_document(body.encode("cp1251"), source="a.html").text == "Мир"
    body = '<?xml version="1.0" encoding="iso-8859-1"?><html><body><p>caf\xe9</p></body></html>'
    assert parse_document(body.encode("latin-1"), source="a.html").text == "café"


def test_a_page_that_only_scripts_fill_is_empty() -> None:
    with pytest.raises(DocumentError) as caught:
        parse_document(b"<html><body><div id=app></div><script>run()</script></body></html>", source="app.html")
    assert caught.value.reason == "empty"


def test_deep_nesting_is_refused_before_it_costs_time() -> None:
    with pytest.raises(DocumentError, match="deep") as caught:
        parse_document(b"<html>" + b"<div>" * 1_000_000, source="a.html")
    assert caught.value.reason == "damaged"
    assert parse_document(b"<html>" + b"<ul><li>" * 3_000 + b"x", source="a.html").text.strip() == "- x"


def test_unclosed_paragraphs_and_items_are_ordinary() -> None:
    parsed = parse_document(b"<html>" + b"<p>word<br>" * 50_000, source="a.html")
    assert parsed.text.count("word") == 50_000
