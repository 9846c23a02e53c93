"""Text that is not English is refused, and English is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sentiment.corpora import OWN
from sentiment.data import read_own
from sentiment.language import foreign
from sentiment.predict import UnsupportedLanguage, aspects, polarity

SAMPLES = Path(__file__).parents[2] / "samples"

FOREIGN = [
    ("de", "Der Akku hält kaum einen halben Tag."),
    ("de", "leider funktioniert die App nach dem Update nicht mehr"),
    ("fr", "Le personnel était charmant mais la chambre trop petite."),
    ("es", "La pantalla es preciosa pero la batería es terrible."),
    ("it", "Il cibo era ottimo ma il servizio lento."),
    ("pt", "O atendimento foi péssimo, nunca mais volto."),
    ("nl", "De batterij gaat nauwelijks een dag mee."),
    ("pl", "Obsługa była bardzo miła, a jedzenie pyszne."),
    ("tr", "Pil ömrü çok kısa, tavsiye etmiyorum."),
    ("ru", "Батарея держит очень мало, не рекомендую."),
    ("ja", "バッテリーの持ちが悪いですが画面はとてもきれいで配送も早かったです"),
]
ENGLISH = [
    "The HP Pavilion dv6-3121nr i7-740QM 8GB DDR3 1TB 7200rpm",
    "Wow wow wow!!! Sooooo goooood!!!!",
    "We had spaghetti carbonara, bruschetta and tiramisu at Trattoria da Enzo",
    "Staff at Hôtel du Petit Moulin were lovely",
    "Muy bueno! The tacos are great",  # two languages: read
    "my name is Xiomara Oyelaran Nakashima",
    "it's K as in kilo seven seven four Q",
    "Thx 4 da help m8, ur da best lol",
    "Good.\x00 The battery\x07 is great, thank you",  # control characters
]


@pytest.mark.parametrize(("code", "text"), FOREIGN)
def test_another_language_is_named(code: str, text: str) -> None:
    assert foreign(text) == code


@pytest.mark.parametrize("text", ENGLISH)
def test_names_codes_and_mixed_text_are_read(text: str) -> None:
    assert foreign(text) is None


def test_fewer_than_twenty_letters_are_read() -> None:
    assert foreign("Der Akku ist sehr gut!") is None
    assert foreign("Der Akku ist sehr, sehr gut!") == "de"
    assert foreign("12345 67890 !!! ... 12345 67890") is None


def test_none_of_our_own_sentences_is_refused() -> None:
    texts = [s.text for s in read_own(OWN)]
    for call in (SAMPLES / "calls").glob("*.json"):
        texts += [one["text"] for one in json.loads(call.read_text())["utterances"]]
    assert len(texts) > 700
    assert [text for text in texts if foreign(text)] == []


def test_the_two_python_calls_refuse_it_and_do_not_repeat_it() -> None:
    _, text = FOREIGN[0]
    for call in (lambda: aspects(text), lambda: polarity(text, [(4, 8)])):
        with pytest.raises(UnsupportedLanguage, match="not English") as err:
            call()
        assert "Akku" not in str(err.value)
