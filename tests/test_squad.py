"""SQuAD: reading, splitting, batches, scores; GloVe; error messages."""

import itertools
import json
import os
import re
import zipfile
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from issref.data import download, glove, squad, squad_batches
from issref.data.squad_score import Score, exact_match, f1, normalised, score

ROOT = Path(__file__).parents[1]
TEXT = "The Normans (French: Normands) were the people who, in the 1910s–20s, didn't settle in the U.S. at all."


def document(text=TEXT, question="Who were they?", answers=(("The Normans", 0),), **more):
    """The bytes of a file with one question."""
    qas = [
        {"id": "q", "question": question, "answers": [{"text": said, "answer_start": at} for said, at in answers]}
    ]
    article = {"title": "Normans", "paragraphs": [{"context": text, "qas": qas}]}
    return json.dumps({"data": [article], "version": "1.1", **more}).encode()


# ---------------------------------------------------------------- words and spans


@given(st.text(max_size=60))
def test_words_are_the_text_without_its_spaces(text):
    words, places = squad.split(text)
    assert "".join(words) == "".join(text.split())
    assert [text[begin:stop] for begin, stop in places] == list(words)


@given(st.lists(st.sampled_from(["a", "N.A.", "won't", "3,000", "it's", "-", "“", "B2", "x_y"]), max_size=8))
def test_a_text_is_split_the_same_way_word_by_word(pieces):
    apart = [word for piece in pieces for word in squad.split(piece)[0]]
    assert list(squad.split(" ".join(pieces))[0]) == apart


def test_words_are_split_as_glove_has_them():
    assert " ".join(squad.split(TEXT)[0]) == (
        "The Normans ( French : Normands ) were the people who , in the 1910 s – 20 s , did n't settle in the "
        "U.S. at all ."
    )
    assert squad.split("Beyoncé’s $1,000.5 can't _do")[0] == (
        "Beyoncé",
        "’s",
        "$",
        "1,000.5",
        "ca",
        "n't",
        "_",
        "do",
    )


@given(st.data())
def test_a_span_is_the_fewest_words_that_hold_the_answer(data):
    begin = data.draw(st.integers(0, len(TEXT) - 1))
    said = TEXT[begin : data.draw(st.integers(begin + 1, len(TEXT)))]
    if not said.strip():
        return
    (example,) = squad.read("file", document(answers=[(said, begin)]))
    found = example.span(example.start, example.end)
    assert said.strip() in found
    if example.start < example.end:
        assert said.strip() not in example.span(example.start + 1, example.end)
        assert said.strip() not in example.span(example.start, example.end - 1)


def test_the_first_answer_is_the_one_to_learn_and_all_are_kept_for_the_score():
    answers = [("the people", TEXT.index("the people")), ("The Normans", 0)]
    (example,) = squad.read("file", document(answers=answers))
    assert example.answers == ("the people", "The Normans")
    assert example.span(example.start, example.end) == "the people"


def test_training_leaves_out_long_questions_and_late_answers():
    (example,) = squad.read("file", document(answers=[("people", TEXT.index("people"))]))
    assert example.end == 9
    assert squad.for_training([example], question=4, context=10) == [example]
    assert squad.for_training([example], question=3, context=10) == []
    assert squad.for_training([example], question=4, context=9) == []


# ---------------------------------------------------------------- vocabulary and batches


def examples_of(texts):
    """Examples with these contexts, the question always the same."""
    return [
        squad.Example(str(n), text, squad.split(text)[1], squad.split(text)[0], ("Who", "?"), start=0, end=0)
        for n, text in enumerate(texts)
    ]


def test_a_frequent_word_that_glove_lacks_is_trained():
    examples = examples_of(["Blub blub runs", "it’s Blub", "Blub blub runs"])
    words, characters = squad_batches.vocabulary(examples, {"runs", "it", "'s", "who"}, words=2, characters=4)
    assert words == ("<padding>", "<unknown>", "blub", "?")  # ? is asked three times
    assert characters[:2] == ("<padding>", "<unknown>")
    assert set(characters[2:]) == {"b", "l", "u"}
    assert squad_batches.lower_case(examples) == {"blub", "runs", "it", "'s", "who", "?"}


texts = st.lists(st.text("aAbc ", min_size=1, max_size=30).filter(str.strip), min_size=1, max_size=5)


@given(texts, st.integers(1, 12))
def test_a_batch_reads_back_as_its_texts(contexts, limit):
    examples = examples_of(contexts)
    letters = ("<padding>", "<unknown>", "a", "b", "c", "A")
    words = ("<padding>", "<unknown>", *sorted({word.lower() for each in examples for word in each.context}))
    batch = squad_batches.batch(examples, squad_batches.coder(words, letters), limit)
    ids, spellings, lengths = batch.context
    assert ids.shape == spellings.shape[:2] == (lengths.max(), len(examples))
    assert 5 <= spellings.shape[2] <= 16
    for column, example in enumerate(examples):
        kept, length = example.context[:limit], lengths[column]
        assert length == len(kept)
        assert [words[number] for number in ids[:length, column]] == [word.lower() for word in kept]
        spelt = ["".join(letters[number] for number in row if number) for row in spellings[:length, column]]
        assert spelt == [word[:16] for word in kept]
        assert not ids[length:, column].any()
        assert not spellings[length:, column].any()
    np.testing.assert_array_equal(batch.question[0], np.full((2, len(examples)), 1))


@given(st.lists(st.integers(1, 300), min_size=1, max_size=80), st.integers(1, 9), st.integers(0, 9))
def test_buckets_hold_every_text_once_and_like_lengths_together(lengths, size, seed):
    lengths = np.array(lengths)
    for rng in (None, np.random.default_rng(seed)):
        batches = squad_batches.buckets(lengths, size, rng)
        assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
        assert sum(len(batch) != size for batch in batches) <= 1
        assert apart(lengths, batches)


def apart(lengths, batches):
    """Return whether the ranges of length // 10 in different batches do not overlap."""
    tens = sorted(((lengths[batch] // 10).min(), (lengths[batch] // 10).max()) for batch in batches)
    return all(one[1] <= following[0] for one, following in itertools.pairwise(tens))


def test_the_batches_of_an_epoch_are_those_of_its_seed():
    lengths = np.arange(100) // 3
    first, again, other = (squad_batches.buckets(lengths, 7, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(np.concatenate(first), np.concatenate(again))
    assert (np.concatenate(first) != np.concatenate(other)).any()
    assert apart(lengths, first)


# ---------------------------------------------------------------- the score, on hand-made cases


@pytest.mark.parametrize(
    ("answer", "gold", "exact", "overlap"),
    [
        ("The Normans", "normans", True, 1),  # articles and case
        ("a theatre", "theatre", True, 1),
        ("theatre", "an atre", False, 0),  # articles are whole words
        ("U.S.", "US", True, 1),  # punctuation goes, and nothing comes in its place
        ("twenty-one", "twenty one", False, 0),
        ("1914–18", "191418", False, 0),  # only ASCII's
        ("a-b", "ab", True, 1),  # punctuation before articles
        ("a–b", "–b", True, 1),  # an article beside what is not of a word
        ("north–the–sea", "north– –sea", True, 1),  # a space comes in an article's place
        ("  in   Rouen ", "in Rouen", True, 1),
        ("in Rouen", "Rouen", False, 2 / 3),
        ("Rouen Rouen", "Rouen", False, 2 / 3),  # words as multisets
        ("one two three", "three four", False, 2 / 5),
        ("", "Rouen", False, 0),
        ("", "the", True, 0),  # the official script's verdict on two answers without words
        ("the", "a!", True, 0),
    ],
)
def test_a_pair_of_answers_scores_as_the_official_definition_says(answer, gold, exact, overlap):
    assert exact_match(answer, gold) is exact
    assert f1(answer, gold) == pytest.approx(overlap)


def test_of_several_answers_the_best_counts_and_a_missing_prediction_scores_nothing():
    golds = [("1", ("Rouen", "in Rouen, France")), ("2", ("10", "ten")), ("3", ("x",))]
    assert score({"1": "Rouen, France", "2": "Ten."}, golds) == Score(pytest.approx(100 / 3), pytest.approx(60))
    assert score({name: answers[-1] for name, answers in golds}, golds) == (100, 100)
    with pytest.raises(ValueError, match="expected at least one question, got none"):
        score({}, [])


words = st.text(st.sampled_from("ab the.,-"), max_size=12)


@given(words, words)
def test_scores_are_symmetric_and_exactness_is_full_overlap(one, other):
    assert f1(one, other) == f1(other, one)
    assert exact_match(one, other) == exact_match(other, one)
    if exact_match(one, other) and normalised(one):
        assert f1(one, other) == 1


# ---------------------------------------------------------------- bad input: a sentence


def twice(name):
    """A file with two questions of one id."""
    tree = json.loads(document())
    for paragraph in tree["data"][0]["paragraphs"]:
        paragraph["qas"] = [{**asked, "id": name} for asked in paragraph["qas"] * 2]
    return json.dumps(tree).encode()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            document(version="v2.0"),
            "dev.json: expected SQuAD v1.1, got version 'v2.0'",
        ),
        (
            document(answers=()),
            "dev.json: expected SQuAD v1.1, where every question has an answer, got 'q' without one: impossible "
            "questions belong to v2",
        ),
        (
            document(answers=[("Normans", 5)]),
            "dev.json: expected the answer 'Normans' of 'q' at character 5 of its context, got 'ormans '",
        ),
        (
            document(answers=[("Normans", -9)]),
            "dev.json: expected the answer 'Normans' of 'q' at character -9 of its context, got ''",
        ),
        (
            document(answers=[("", 4)]),
            "dev.json: expected the answer '' of 'q' at character 4 of its context, got ''",
        ),
        (
            document(question=" \n"),
            "dev.json, question 'q': expected a question with words, got ' \\n'",
        ),
        (document(text=" "), "dev.json, question 'q': expected a context with words, got ' '"),
        (b"caf\xe9", "dev.json: expected JSON, got Invalid JSON: "),
        (b"{", "dev.json: expected JSON, got Invalid JSON: EOF while parsing an object at line 1"),
        (b"[" * 100_000, "dev.json: expected JSON, got Invalid JSON: recursion limit"),
        (b"[1]", "dev.json: expected an object, got [1]"),
        (b"{}", "dev.json, data: expected a value, got none"),
        (
            b'{"data": [{"paragraphs": [{"context": 3, "qas": []}]}]}',
            "dev.json, data[0].paragraphs[0].context: expected a valid string, got 3",
        ),
        (b'{"data": []}', "dev.json: expected at least one question, got none"),
        (twice("q"), "dev.json: expected a different id for each question, got 'q' 2 times"),
        (twice(None), "dev.json, data[0].paragraphs[0].qas[0].id: expected a valid string, got None"),
    ],
)
def test_a_file_that_is_not_squad_is_refused_in_a_sentence(content, said):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        squad.read("dev.json", content)
    assert str(error.value).startswith(said)


@pytest.mark.parametrize(
    ("question", "text", "said"),
    [
        ("", "text", "--question and --context-file: expected a question with words, got ''"),
        ("Why?", " ", "--question and --context-file: expected a context with words, got ' '"),
        ("why " * 31, "text", "--question: expected at most 30 words, got 31"),
    ],
)
def test_a_question_that_cannot_be_asked_is_refused_in_a_sentence(question, text, said):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        squad.ask(question, text, 30)
    assert str(error.value) == said


def test_the_vectors_of_the_wanted_words_are_read(tmp_path):
    lines = "the 1 2\nd'or 3.5 -4\nréal 5 6e-1\n".encode()
    (tmp_path / "some.txt").write_bytes(lines)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("glove.6B.2d.txt", lines)
        archive.writestr("glove.6B.3d.txt", b"the 1 2 3\n")
    for name in ("some.txt", "all.zip"):
        words, vectors = glove.read(tmp_path / name, {"réal", "the", "other"}, 2)
        assert words == ("the", "réal")
        np.testing.assert_array_equal(vectors, np.array([[1, 2], [5, 0.6]], np.float32), strict=True)


MARK = "\ufeff".encode()  # the byte order mark of Windows


def test_a_byte_order_mark_is_no_part_of_a_word(tmp_path):
    assert squad.read("dev.json", MARK + document()) == squad.read("dev.json", document())
    assert squad.count("dev.json", MARK + document()) == squad.count("dev.json", document()) > 0
    found = []
    for name, mark in (("plain", b""), ("marked", MARK)):
        (tmp_path / name).write_bytes(mark + b"the 1 2\nof 3 4\n")
        found.append(glove.read(tmp_path / name, ["the", "of"], 2))
    assert found[0][0] == found[1][0] == ("the", "of")
    np.testing.assert_array_equal(found[0][1], found[1][1])


@pytest.mark.parametrize("name", ["some.txt", "all.zip"])
def test_the_progress_of_reading_vectors_ends_at_the_bytes_there_are(name, tmp_path, monkeypatch):
    lines, told = b"the 1 2\nof 3 4\n", []

    def bar(path, size):
        told.append(-size)
        return nullcontext(SimpleNamespace(update=told.append))

    monkeypatch.setattr(glove, "_bar", bar)
    (tmp_path / "some.txt").write_bytes(lines)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("glove.6B.2d.txt", lines)
    glove.read(tmp_path / name, {"the"}, 2)
    assert told == [-len(lines), 8, 7]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"the 1 2 3\n", ": expected 2 numbers after each word, got 3 in line 1"),
        (b"the 1 2\nof 1\n", ": expected 2 numbers after each word, got 1 in line 2"),
        (b"the 1 x\n", ": expected numbers, got others in line 1 (could not convert string to float"),
        (b"the 1 nan\n", ": expected finite numbers, got others for 'the'"),
        (b"the 1 2\ncaf\xe9 1 2\n", r": expected UTF-8, got b'caf\xe9' in line 2"),
        (b"of 1 2\n", ": expected vectors for some of 1 words, got none"),
        (b"the\xef\xbb\xbf 1 2\n", ": expected vectors for some of 1 words, got none"),
        (b"", ": expected vectors for some of 1 words, got none"),
        (None, ": expected a readable file, got No such file or directory"),
    ],
)
def test_a_file_that_holds_no_such_vectors_is_refused_in_a_sentence(content, said, tmp_path):
    path = tmp_path / "glove.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"{path}{said}")):
        glove.read(path, {"the"}, 2)


def test_a_zip_file_without_this_width_is_refused_in_a_sentence(tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("glove.6B.3d.txt", b"the 1 2 3\n")
    with pytest.raises(ValueError, match=r"all\.zip: expected a zip file with glove\.6B\.2d\.txt, got"):
        glove.read(tmp_path / "all.zip", {"the"}, 2)


# ---------------------------------------------------------------- where the files are, and the files themselves


def test_the_first_of_several_files_that_a_folder_holds_is_taken(tmp_path, monkeypatch):
    monkeypatch.setenv("ISSREF_DATA", str(tmp_path))
    monkeypatch.setattr(download, "_checked", lambda path, *_: path)
    names = ("squad/train-v1.1.json", "squad/train-v1.1.subset44.json")
    with pytest.raises(ValueError, match=r"ISSREF_DATA .*: expected squad/train-v1\.1\.json, got an empty folder"):
        download.find_first(names)
    (tmp_path / "train-v1.1.subset44.json").touch()
    assert download.find_first(names)[0].name == "train-v1.1.subset44.json"
    (tmp_path / "squad").mkdir()
    (tmp_path / "squad/train-v1.1.json").touch()
    assert download.find_first(names)[0].name == "train-v1.1.json"


def test_a_file_that_is_nowhere_to_be_downloaded_is_told(tmp_path, monkeypatch):
    monkeypatch.delenv("ISSREF_DATA", raising=False)
    monkeypatch.setattr(download, "cache", lambda: tmp_path)
    with pytest.raises(ValueError, match=r"expected a folder with glove/glove\.6B\.100d\.txt, which cannot"):
        download.find("glove/glove.6B.100d.txt")


def real_data():
    """The folder with the real dev questions, if this machine has one."""
    named = [Path(os.environ["ISSREF_DATA"])] if os.environ.get("ISSREF_DATA") else []
    folders = [*named, ROOT.parent / "shared/data"]
    return next((folder for folder in folders if (folder / "squad/dev-v1.1.json").exists()), None)


def test_the_dev_questions_have_their_known_number_and_their_answers_are_spans_of_words():
    if (folder := real_data()) is None:
        pytest.skip("SQuAD is not on this machine; ISSREF_DATA can name its folder")
    path, _ = download.find("squad/dev-v1.1.json", folder)
    examples = squad.read("dev", download.read(path))
    assert len(examples) == 10_570
    assert len({each.id for each in examples}) == 10_570
    golds = [(each.id, each.answers) for each in examples]
    spans = {each.id: each.span(each.start, each.end) for each in examples}
    assert score(spans, golds).exact_match > 99.5  # the rest is answers that are parts of words
