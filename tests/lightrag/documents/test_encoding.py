import pytest

from lightrag.documents import parse_document
from lightrag.errors import DocumentError

JAPANESE = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。"
CHINESE = "董事会在三月开会，决定在河边开设第二家工厂，并任命王先生为经理。"
TAIWANESE = "董事會在三月開會，決定在河邊開設第二家工廠，並任命王先生為經理。"
KOREAN = "이사회는 3월에 모여 강 근처에 두 번째 공장을 열기로 했다. 새 공장의 책임자는 김 선생이다."
RUSSIAN = "Совет собрался в марте и решил открыть вторую фабрику у реки."
POLISH = "Zażółć gęślą jaźń. Wszystkie przychody wzrosły, ponieważ sprzedaż była większa."
FRENCH = "Le chiffre d’affaires a augmenté de façon régulière, grâce à l’été."
ARABIC = "اجتمع المجلس في مارس وقرر افتتاح مصنع ثان بالقرب من النهر."
GREEK = "Το συμβούλιο συνεδρίασε τον Μάρτιο και αποφάσισε να ανοίξει δεύτερο εργοστάσιο."
THAI = "คณะกรรมการประชุมในเดือนมีนาคมและตกลงเปิดโรงงานแห่งที่สองใกล้แม่น้ำ"
HEBREW = "הדירקטוריון התכנס בחודש מרץ והחליט לפתוח מפעל שני ליד הנהר. מנהל המפעל החדש הוא מר כהן."


def read(data: bytes) -> str:
    return parse_document(data, source="notes.txt").text


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (JAPANESE, "shift_jis"),
        (JAPANESE, "euc_jp"),
        (JAPANESE, "iso2022_jp"),
        (CHINESE, "gb18030"),
        (CHINESE, "utf-16-le"),
        (TAIWANESE, "big5"),
        (KOREAN, "euc_kr"),
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8_r"),
        (RUSSIAN, "cp866"),
        (POLISH, "cp1250"),
        (FRENCH, "cp1252"),
        (ARABIC, "cp1256"),
        (GREEK, "cp1253"),
        (THAI, "cp874"),
        (HEBREW, "cp1255"),
        (FRENCH, "mac_roman"),
    ],
)
@pytest.mark.parametrize("repeat", [1, 1_000])
def test_old_encodings_are_recognised_by_what_the_text_says(text: str, encoding: str, repeat: int) -> None:
    whole = "\n".join([text] * repeat)
    assert read(whole.encode(encoding)) == whole


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("text", [CHINESE, FRENCH, "plain"])
def test_a_byte_order_mark_is_believed_and_removed(text: str, encoding: str) -> None:
    assert read(text.encode(encoding)) == text


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_unmarked_wide_encodings_are_known_by_their_zeros(encoding: str) -> None:
    text = f"Minutes of the meeting.\n{FRENCH}\n"
    assert read(text.encode(encoding)) == text


def test_one_foreign_letter_in_a_long_english_text_is_decoded() -> None:
    text = "The meeting was held as planned. " * 3_000 + "José attended. " + "The board adjourned. " * 3_000
    assert read(text.encode("cp1252")) == text


def test_utf8_with_a_broken_byte_is_never_read_as_something_else() -> None:
    data = FRENCH.encode() * 10
    with pytest.raises(DocumentError, match=f"byte {len(data)}") as caught:
        read(data + b"\xc3 " + data)
    assert caught.value.reason == "undecodable"
    with pytest.raises(DocumentError, match="cut off"):
        read((FRENCH + "é").encode()[:-1])


@pytest.mark.parametrize("data", ["Привет, мир".encode("koi8_r"), "이사회 회의록".encode("euc_kr")])
def test_too_little_to_tell_is_refused_with_the_cure(data: bytes) -> None:
    with pytest.raises(DocumentError, match=r"'notes.txt'.*UTF-8") as caught:
        read(data)
    assert caught.value.reason == "undecodable"


@pytest.mark.parametrize(
    "data", [bytes(range(256)) * 8, b"\x00\x01\x02\x03\xff\xfe\x80" * 100, b"\x7fELF\x02" + b"\0" * 99]
)
def test_binary_data_is_not_text(data: bytes) -> None:
    with pytest.raises(DocumentError) as caught:
        read(data)
    assert caught.value.reason in ("unsupported", "undecodable")


def test_a_stray_zero_byte_does_not_hide_the_text() -> None:
    assert read(b"log line one\n" * 20 + b"\0" + b"log line two\n" * 20).count("log line") == 40
