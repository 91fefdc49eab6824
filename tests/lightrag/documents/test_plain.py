from lightrag.documents import parse_document


def test_the_text_is_the_file_with_its_line_ends_made_equal() -> None:
    parsed = parse_document(b"  One\r\n\r\nTwo\rThree\n", source="a.txt")
    assert parsed.text == "  One\n\nTwo\nThree\n"
    assert parsed.media_type == "text/plain"


def test_form_feeds_are_pages() -> None:
    parsed = parse_document(b"First page.\fSecond page.\f\fFourth page.", source="a.txt")
    assert [(page.label, parsed.text[page.start : page.end].strip()) for page in parsed.sections] == [
        ("1", "First page."),
        ("2", "Second page."),
        ("4", "Fourth page."),
    ]


def test_lines_that_name_a_chapter_are_headings() -> None:
    text = "Chapter I\nThe Cyclone\n\nDorothy lived in Kansas.\n\nCHAPTER 2\n\n"
    text += "In chapter 3 we part of ways.\n\n第三章 山\n\n終"
    parsed = parse_document(text.encode(), source="a.txt")
    assert [section.label for section in parsed.sections] == ["Chapter I", "CHAPTER 2", "第三章 山"]
    assert all(parsed.text[section.start :].startswith(section.label) for section in parsed.sections)


def test_the_title_is_a_first_line_alone_or_else_the_name_of_the_file() -> None:
    assert parse_document(b"Annual Report 1911\n\nIt was a good year.", source="x/r.txt").title == "Annual Report 1911"
    assert parse_document(b"It was a good year. And so on.\nMore.", source="x/report 1911.txt").title == "report 1911"
    assert parse_document(b"text", source="C:\\docs\\report.txt", title="Given").title == "Given"
