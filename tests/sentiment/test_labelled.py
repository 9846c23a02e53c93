"""A user's labelled file: both formats, and every wrong line named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiment.data import Mention
from sentiment.encode import TextEncoder
from sentiment.labelled import FileProblem, by_sentence, problems, read_labelled, rows, span_of
from sentiment.predict import MODEL_REPO

ENCODER = TextEncoder.load(MODEL_REPO / "cvib" / "1" / "tokenizer.json")
SCREEN = Mention(start=4, end=10, polarity="positive")


def written(tmp_path: Path, name: str, content: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"text": "The screen is great.", "aspects": [{"from": 4, "to": 10, "polarity": "positive"}]}'),
        ("a.jsonl", '{"text": "The screen is great.", "from": 4, "to": 10, "polarity": "Positive"}\n\n'),
        ("a.csv", "text,from,to,polarity\nThe screen is great.,4,10,positive\n"),
        ("a.csv", "text,from,to,polarity\nThe screen is great.,4.0,10.0,positive\n"),
        ("a.jsonl", '{"text": "The screen is great.", "from": 4.0, "to": "10.", "polarity": "positive"}'),
        ("a.csv", "text,aspect,from,to,polarity\nThe screen is great.,SCREEN,4,10,positive\n"),
        ("a.csv", "\ufefftext,aspect,polarity\nThe screen is great.,Screen,positive\n"),
    ],
)
def test_all_formats_say_the_same(tmp_path: Path, name: str, content: str) -> None:
    [line] = read_labelled(written(tmp_path, name, content))
    assert (line.text, line.mentions) == ("The screen is great.", (SCREEN,))


def test_lines_of_one_text_belong_together_and_none_may_have_an_aspect(tmp_path: Path) -> None:
    path = written(
        tmp_path, "a.csv",
        'text,from,to,polarity\nGood screen and lid.,12,13,neutral\nThanks!,,,\n"Good screen and lid.",5,11,positive\n',
    )  # fmt: skip
    first, second = read_labelled(path)
    assert [(m.start, m.end) for m in first.mentions] == [(5, 11), (12, 13)]
    assert (second.text, second.mentions) == ("Thanks!", ())


@pytest.mark.parametrize(
    ("content", "line", "says"),
    [
        ('{"text": "a b"}\n{"text": ', 2, "not JSON"),
        ("[1]", 1, "not a JSON object"),
        ('{"text": " "}', 1, "`text` is missing"),
        ('{"text": "The lid \\ud83d"}', 1, "character 8 of `text` is half a surrogate pair"),
        ('{"text": "The lid.", "from": 4, "to": 7}', 1, "`polarity` is one of"),
        ('{"text": "The lid.", "from": 4, "to": 9, "polarity": "neutral"}', 1, "outside the text of 8 characters"),
        ('{"text": "The lid.", "from": "x", "to": 7, "polarity": "neutral"}', 1, "numbers of characters"),
        ('{"text": "The lid.", "from": 4.5, "to": 7, "polarity": "neutral"}', 1, "numbers of characters"),
        ('{"text": "The lid.", "from": "nan", "to": 7, "polarity": "neutral"}', 1, "numbers of characters"),
        ('{"text": "The lid.", "from": -1, "to": 7, "polarity": "neutral"}', 1, "outside the text of 8 characters"),
        ('{"text": "The lid.", "from": 3, "to": 7, "polarity": "neutral"}', 1, "with a space"),
        ('{"text": "lid or lid", "aspect": "lid", "polarity": "neutral"}', 1, "occurs 2 times"),
        ('{"text": "The lid.", "aspect": "cord", "polarity": "neutral"}', 1, "does not occur"),
        ('{"text": "The lid.", "aspects": "lid"}', 1, "is a list"),
        ('{"text": "The lid.", "aspects": [], "polarity": "neutral"}', 1, "`polarity` stands beside `aspects`"),
        ('{"text": "The lid.", "aspect": "cord", "from": 4, "to": 7, "polarity": "neutral"}', 1, "stands at 4:7"),
        ('{"text": "The lid.", "aspect": "lid", "to": 7, "polarity": "neutral"}', 1, "numbers of characters"),
        ('{"text": "A\\u200bb", "from": 1, "to": 2, "polarity": "neutral"}', 1, "1:2 holds nothing to read"),
        ('{"text": "A \\ufffd", "aspect": "\\ufffd", "polarity": "neutral"}', 1, "2:3 holds nothing to read"),
        (
            '{"text": "The lid.", "from": 4, "to": 7, "polarity": "neutral"}\n'
            '{"text": "The lid.", "from": 4, "to": 7, "polarity": "positive"}',
            2,
            "neutral on an earlier line",
        ),
        (
            '{"text": "The red lid.", "aspects": [{"from": 4, "to": 11, "polarity": "neutral"},'
            ' {"from": 8, "to": 11, "polarity": "neutral"}]}',
            1,
            "overlaps another",
        ),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, content: str, line: int, says: str) -> None:
    path = written(tmp_path, "a.jsonl", content)
    [problem] = problems(path)
    assert (problem.line, says in problem.problem) == (line, True), problem
    with pytest.raises(FileProblem, match=f"a.jsonl, line {line}: "):
        read_labelled(path)


@settings(deadline=None, max_examples=100)
@given(st.text(min_size=1, max_size=12), st.data())
def test_what_a_file_may_mark_the_tokenizer_reads(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    try:
        span_of({"from": start, "to": end}, text)
    except ValueError:
        return
    assert sum(ENCODER.pair(ENCODER.sentence(text), start, end).aspect) > 0


def test_bytes_that_are_no_text_and_unknown_kinds_of_file(tmp_path: Path) -> None:
    assert "UTF-8" in str(problems(written(tmp_path, "a.jsonl", b'{"text": "ok"}\n\xff\xfe'))[0])
    assert problems(written(tmp_path, "a.jsonl", b'{"text": "ok"}\n\xff\xfe'))[0].line == 2
    indexed = written(tmp_path, "b.csv", ",text,aspect\n0,The screen is dark.,screen\n")  # as pandas writes it
    assert not [one for one in problems(indexed) if "more fields" in str(one)]
    assert "more fields" in str(problems(written(tmp_path, "a.csv", "text,aspect\na,b,c\n"))[0])
    assert "come as" in str(problems(written(tmp_path, "a.txt", "x"))[0])


def test_a_record_over_several_lines_is_named_by_its_first(tmp_path: Path) -> None:
    content = 'text,from,to,polarity\n"Good\nlid.",5,8,neutral\n\n"Good\nfan.",5,8,fine\nBye.\n"Bad\nlid,5,8,neutral\n'
    path = written(tmp_path, "a.csv", content)
    assert [(one.line, one.problem[:13]) for one in problems(path)] == [(5, "`polarity` is"), (8, "it is not CSV")]
    assert [n for n, _ in rows(path)] == [2, 5, 7, 8]


def test_a_problem_passes_through_a_context_manager() -> None:
    @contextmanager
    def through() -> Iterator[None]:
        yield

    with pytest.raises(FileProblem, match=r"a\.csv, line 2: wrong"), through():
        raise FileProblem("a.csv", 2, "wrong")


def test_a_text_is_cut_into_the_sentences_that_the_model_reads(tmp_path: Path) -> None:
    text = "We like it. The screen is great! Dr. No said so."
    path = written(tmp_path, "a.csv", f"text,aspect,polarity\n{text},screen,positive\n")
    found = by_sentence(read_labelled(path)[0])
    assert [s.text for s in found] == ["We like it.", "The screen is great!", "Dr. No said so."]
    assert [[s.text[m.start : m.end] for m in s.mentions] for s in found] == [[], ["screen"], []]


def test_a_line_separator_inside_a_text_ends_no_line_of_csv(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("text,aspect,polarity\nThe screen\u2028is great.,screen,positive\n", encoding="utf-8")
    [line] = read_labelled(path)
    assert (line.number, line.text) == (2, "The screen\u2028is great.")
