import pytest

from lightrag.documents import detect_language

TEXTS = {
    "en": "The board met in March and agreed to open a second mill near the river.",
    "es": "La junta se reunió en marzo y acordó abrir un segundo molino cerca del río.",
    "fr": "Le conseil s'est réuni en mars et a décidé d'ouvrir un deuxième moulin près de la rivière.",
    "de": "Der Vorstand trat im März zusammen und beschloss, eine zweite Mühle am Fluss zu eröffnen.",
    "it": "Il consiglio si è riunito a marzo e ha deciso di aprire un secondo mulino vicino al fiume.",
    "pt": "O conselho reuniu-se em março e decidiu abrir um segundo moinho perto do rio.",
    "zh": "董事会在三月开会，决定在河边开设第二家工厂。",
    "ja": "取締役会は三月に開かれ、川の近くに二つ目の工場を建てることを決めた。",
    "ko": "이사회는 3월에 모여 강 근처에 두 번째 공장을 열기로 했다.",
    "ar": "اجتمع المجلس في مارس وقرر افتتاح مصنع ثان بالقرب من النهر.",
    "th": "คณะกรรมการประชุมในเดือนมีนาคมและตกลงเปิดโรงงานแห่งที่สองใกล้แม่น้ำ",
    "ru": "Совет собрался в марте и решил открыть вторую фабрику у реки.",
    "hi": "बोर्ड की बैठक मार्च में हुई और नदी के पास दूसरा कारखाना खोलने का निर्णय लिया गया।",
    "uk": "Рада зібралася в березні й вирішила відкрити другу фабрику біля річки.",
    "fa": "هیئت مدیره در ماه مارس تشکیل جلسه داد و تصمیم گرفت کارخانه دوم را باز کند.",
    "el": "Το συμβούλιο συνεδρίασε τον Μάρτιο και αποφάσισε να ανοίξει δεύτερο εργοστάσιο.",
}
QUESTIONS = {
    "en": "what is the revenue?",
    "es": "¿Quién ganó?",
    "fr": "Quel est le chiffre d'affaires ?",
    "de": "wie hoch war der Umsatz",
    "it": "qual è il fatturato",
    "pt": "qual é a receita",
    "zh": "收入是多少",
    "ja": "売上はいくらですか",
    "ko": "매출은 얼마입니까",
    "ar": "ما هي الإيرادات",
    "th": "รายได้เท่าไหร่",
    "ru": "какая выручка",
    "hi": "राजस्व कितना है",
}


@pytest.mark.parametrize(("code", "text"), TEXTS.items())
def test_a_sentence_names_its_language(code: str, text: str) -> None:
    language = detect_language(text)
    assert language.code == code
    assert language.confidence > 0.5


@pytest.mark.parametrize(("code", "text"), QUESTIONS.items())
def test_a_short_question_names_its_language(code: str, text: str) -> None:
    assert detect_language(text).code == code


@pytest.mark.parametrize("text", ["", " \n", "12345", "!!! ...", "a", "Berlin", "Lucas Müller", "GPT-4", "hello"])
def test_names_numbers_and_single_words_are_undetermined(text: str) -> None:
    assert detect_language(text).code == "und"


def test_quoted_names_do_not_hide_the_language_around_them() -> None:
    assert detect_language("ประชากรของ Greater Los Angeles Area คืออะไร?").code == "th"
    assert detect_language("أين يقع Energiprojekt AB؟").code == "ar"


def test_a_long_text_is_judged_by_all_of_it_and_always_alike() -> None:
    text = "Contents\n1 2 3\n" + (TEXTS["de"] + " ") * 20_000
    assert detect_language(text) == detect_language(text)
    assert detect_language(text).code == "de"
