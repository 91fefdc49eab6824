import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.documents import split_sentences


def sentences(text: str) -> list[str]:
    return [text[start:end] for start, end in split_sentences(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("Dr. Li met J. R. Smith of Acme Inc. in the U.S. The firm grew.", 2),
        ("It rose by 3.5% to $1.2 million in 2014. Then it fell.", 2),
        ("See Fig. 3 and e.g. Table 2. No. We do not.", 3),
        ('"Really?" he asked. "Yes." She left.', 3),
        ("He said so.[1][2] Then he left. (It was late.) Done.", 4),
        ("Version v1.2.3 of example.com is out. Go.", 2),
        ("她走了。她回来了！“真的吗？”他说。", ["她走了。", "她回来了！", "“真的吗？”", "他说。"]),
        ("「行きます。」と言った。彼は笑った。", ["「行きます。」と言った。", "彼は笑った。"]),
        ("هل فهمت؟ نعم. هذا جيد!", ["هل فهمت؟", "نعم.", "هذا جيد!"]),
        ("Am 3. Mai kam Hr. Müller. Das kostet ca. 5 Euro, d. h. wenig. Ende.", 3),
        ("Он родился в 1990 г. в Москве. Потом уехал.", 2),
        ("यह एक वाक्य है। यह दूसरा है।", 2),
        ("¿Quién ganó? El Sr. Ruiz. ¡Bien!", 3),
    ],
)
def test_punctuation_ends_sentences_in_many_languages(text: str, expected: list[str] | int) -> None:
    found = sentences(text)
    if isinstance(expected, int):
        assert len(found) == expected, found
    else:
        assert found == expected


def test_a_wrapped_paragraph_is_read_through_and_a_list_is_not() -> None:
    text = (
        "Title\n"
        "This is a long wrapped paragraph line that continues\n"
        "onto the next line, and it ends here. And another one\n"
        "follows it.\n\n"
        "- first item\n- second item\n\n"
        "Name | Age\nAda | 36"
    )
    assert sentences(text) == [
        "Title",
        "This is a long wrapped paragraph line that continues\nonto the next line, and it ends here.",
        "And another one\nfollows it.",
        "- first item",
        "- second item",
        "Name | Age",
        "Ada | 36",
    ]


def test_long_thai_text_is_cut_at_spaces() -> None:
    phrase = "ทีมรับของแพนเธอร์สถอดใจที่คะแนนได้อันดับที่หกของลีกในขณะที่เป็นผู้นำในเอ็นเอฟแอล"
    assert sentences(f"{phrase} {phrase} {phrase}") == [phrase] * 3


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.sampled_from("aA1 .!?。」\"'()\n\t-|ก े́👍‍ \u200b\ufeffあ市نé"), max_size=200))
def test_sentences_hold_every_visible_character_once_and_in_order(text: str) -> None:
    spans = split_sentences(text)
    assert all(start < end and not text[start].isspace() and not text[end - 1].isspace() for start, end in spans)
    assert all(one.end <= other.start for one, other in pairwise(spans))
    assert "".join("".join(text[start:end] for start, end in spans).split()) == "".join(text.split())


@pytest.mark.parametrize("unit", ["A. ", ")", ".'", '"? ', "\n", " \n \n", "a", "- ", "ก ", "(", "1.", "|\t"])
def test_time_is_linear_for_degenerate_text(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    began = time.process_time()
    split_sentences(text)
    assert time.process_time() - began < 40
