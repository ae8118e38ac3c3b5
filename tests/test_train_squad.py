"""The reader's command on a few questions: what it writes, how it resumes, answers and fails."""

import errno
import json
import os
import random
import signal
import subprocess
import sys

import numpy as np
import pytest
from test_train_ptb import interrupt_after
from tolerances import ROUNDING, largest_difference, nudged

from issref import Layout, expand, group_norms, report
from issref import train_squad as command
from issref.data import squad
from issref.data.squad_score import score
from issref.squad.evaluation import model_layout
from issref.squad.settings import PRESETS, ScheduleOptions, SquadSettings
from issref.training import checkpoint, console
from issref.training.optimizers import EPSILON
from issref.training.runs import load_run

WORDS = [f"{first}{second}" for first in ("ba", "ke", "li", "mo", "su") for second in ("n", "rt", "ss", "d")]


def questions(seed, count):
    """Texts of words in pairs, and which word follows a given one."""
    rng, paragraphs = random.Random(seed), []
    for number in range(count):
        words = rng.sample(WORDS, rng.randrange(6, 12))
        text, place = " ".join(words), rng.randrange(len(words) - 1)
        start = len(" ".join(words[: place + 1])) + 1
        answer = {"text": words[place + 1], "answer_start": start}
        asked = {"id": f"{seed}-{number}", "question": f"what follows {words[place]}?", "answers": [answer]}
        paragraphs.append({"context": text, "qas": [asked]})
    return {"data": [{"title": "pairs", "paragraphs": paragraphs}], "version": "1.1"}


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder with train and dev questions and vectors of five numbers, one word unknown to them."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    (folder / "train.json").write_text(json.dumps(questions(1, 44)))
    (folder / "dev.json").write_text(json.dumps(questions(2, 20)))
    lines = [f"{word} {' '.join(f'{x:.3f}' for x in rng.normal(size=5))}" for word in [*WORDS[1:], "what", "?"]]
    (folder / "glove.txt").write_text("\n".join(lines) + "\n")
    return folder


def flags(data, out, *more):
    files = [word for name in ("train", "dev") for word in (f"--{name}", str(data / f"{name}.json"))]
    sizes = (
        "--hidden-size 5 --filters 4 --char-size 2 --word-size 5 --batch 8 --steps 22 --penalty-steps 20 "
        "--learning-rate 0.036 --final-rate 0.1 --average 0.8 --strength 6.5 6.8 5.6 5 6.3 6.5 --threads 1 "
        "--dev-sample 10 --keep 0.9"
    )
    return [*files, "--glove", str(data / "glove.txt"), "--out", str(out), *sizes.split(), *more]


@pytest.fixture(autouse=True)
def without_figures(monkeypatch):
    """Only the run that the tests share draws its own: it takes longer than to train."""
    monkeypatch.setattr(report, "draw_run", lambda *arguments: [])


@pytest.fixture(scope="session")
def finished(data, tmp_path_factory):
    """The folder of a whole run, with dropout, in which components die."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert command.main(flags(data, out)) == 0
    return out


def rows_of(run):
    """What metrics.jsonl has of each epoch."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def sentence(capsys):
    """The one line on stderr that says why the command ended."""
    lines = [line for line in capsys.readouterr().err.splitlines() if "issref: " in line]
    assert len(lines) == 1
    return lines[0].split("issref: ")[1]


# ---------------------------------------------------------------- what a run leaves


def test_a_run_learns_its_size_and_writes_all_of_it(finished):
    names = set(os.listdir(finished))
    assert names >= {"config.json", "metrics.jsonl", "model.safetensors", "checkpoint.safetensors", "result.json"}
    assert names >= {"predictions.json", "training.png", "weights.png", "norms.png"}
    assert not [name for name in names if name.endswith(".partial")]
    result = json.loads((finished / "result.json").read_text())
    full, small = (result["components"][one] for one in ("full", "compact"))
    assert set(full.values()) == {5}
    assert 6 <= sum(small.values()) < 30
    assert result["parameters"]["compact"] < result["parameters"]["full"]
    assert result["max_output_difference"] <= 1e-5 * result["largest_logit"]
    assert result["dev_f1"].keys() == {"untrained", "full", "compact"}
    assert result["dev_f1"]["compact"] == pytest.approx(result["dev_f1"]["full"])
    rows = rows_of(finished)
    assert [row["trace"][-1]["step"] for row in rows] == [6, 6, 6, 4]  # 22 steps, 6 to an epoch
    assert rows[-1]["alive"] == small
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert result["cuts"]["count"] == sum(len(row["cuts"]) for row in rows) > 1
    assert result["cuts"]["max_output_difference"] <= 1e-5 * result["largest_logit"]


def test_the_predictions_are_those_that_were_scored(data, finished):
    predictions = json.loads((finished / "predictions.json").read_text())
    dev = squad.read("dev", (data / "dev.json").read_bytes())
    assert list(predictions) == [each.id for each in dev]
    assert all(predictions[each.id] in each.text for each in dev)
    found = score(predictions, ((each.id, each.answers) for each in dev))
    result = json.loads((finished / "result.json").read_text())
    assert found == (result["dev_em"]["compact"], result["dev_f1"]["compact"])
    assert result["all_dev"] == {**found._asdict(), "questions": 20}


def test_the_final_table_sets_the_untrained_model_beside_both(data, tmp_path, capsys):
    assert command.main(flags(data, tmp_path / "run", "--steps", "2", "--method", "dense")) == 0
    shown = capsys.readouterr().out
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    for word in ("untrained", "compact", "components", "parameters", "dev F1", result["corpus"]["sha256"]):
        assert word in shown
    assert f"{result['dev_f1']['untrained']:.2f}" in shown
    assert set(result["components"]["compact"].values()) == {5}


def test_a_limit_of_dev_contexts_is_a_limit_of_what_is_scored_not_of_what_is_answered(data, tmp_path):
    assert command.main(flags(data, tmp_path / "run", "--steps", "1", "--dev-limit", "8")) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert 0 < result["corpus"]["dev"] < result["all_dev"]["questions"] == 20
    assert len(json.loads((tmp_path / "run" / "predictions.json").read_text())) == 20


@pytest.fixture(scope="session")
def both_ways(data, tmp_path_factory):
    """The folders and the losses, step by step, of the same run in float64, with the arrays cut at each death and
    with zeros kept."""
    out = tmp_path_factory.mktemp("runs")
    return tuple(zip(*(calm_run(data, out / way, f"--{way}") for way in ("shrink", "no-shrink")), strict=True))


def calm_run(data, out, way, init_params=command.shell.init_params):
    """The folder and the losses, step by step."""
    losses, advance = [], console.advance
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(console, "advance", lambda *args: (losses.append(args[1].loss_sum), advance(*args)))
        patch.setattr(command.shell, "init_params", init_params)
        assert command.main(flags(data, out, way, "--dtype", "float64")) == 0
    return out, np.array(losses)


@pytest.fixture(scope="session")
def moved_run(data, tmp_path_factory):
    """The folder of the same run, zeros kept, but for all that its steps may round, made at once."""
    out = tmp_path_factory.mktemp("runs") / "moved"
    return calm_run(data, out, "--no-shrink", nudged(command.shell.init_params, STEPS))[0]


UNMOVED = ("start/bias", "end/bias", "attention/bias")  # a softmax follows: their gradients are rounding alone
STEPS, RATE = 22, 0.036
DRIFT = STEPS * RATE * ROUNDING / EPSILON  # a step of Adam is at most RATE |g| / EPSILON


def test_cutting_components_out_as_they_die_leaves_the_path_as_it_is(both_ways, moved_run):
    """The sums that a cut shortens round otherwise: to no more than all that the steps may round, made at once."""
    folders, losses = both_ways
    np.testing.assert_allclose(*losses, rtol=STEPS * ROUNDING)
    small, kept, moved = (checkpoint.load(run / "model.safetensors")[0] for run in (*folders, moved_run))
    for array in UNMOVED:
        assert max(np.abs(model.pop(array)).max() for model in (small, kept, moved)) <= DRIFT
    allowed = largest_difference(moved, kept)
    assert allowed <= 1e-9  # a path on which rounding grew so far would tell nothing
    assert largest_difference(small, kept) <= allowed
    result = json.loads((folders[0] / "result.json").read_text())
    assert result["cuts"]["count"] > 1
    assert result["cuts"]["max_output_difference"] <= 1e-12 * result["largest_logit"]


def test_moments_and_average_of_the_dead_are_zero(both_ways, moved_run):
    (cut, kept), _ = both_ways
    smaller, whole, moved = (load_run(run / "checkpoint.safetensors")[0] for run in (cut, kept, moved_run))
    _, about = checkpoint.load(kept / "model.safetensors")
    layout = Layout.from_json(json.dumps(about["layout"]))
    for name in ("average", "first", "second"):
        params = checkpoint.strip_prefix(smaller.optimizer_state, name)
        full, _ = expand(params, layout, smaller.alive)
        same, nearby = (checkpoint.strip_prefix(run.optimizer_state, name) for run in (whole, moved))
        allowed = max(np.abs(nearby[array] - same[array]).max() for array in same if array not in UNMOVED)
        for array, values in full.items():
            found = whole.optimizer_state[f"{name}/{array}"]
            assert np.abs(values - found).max() <= (DRIFT if array in UNMOVED else allowed), array
            assert not found[values == 0].any()


def test_after_the_penalty_steps_no_one_dies_and_weights_are_those_of_adam_alone(data, tmp_path):
    """A strength that would kill everyone in one step, had it a second step to act in."""
    more = ("--steps", "3", "--penalty-steps", "1", "--strength", "40")
    assert command.main(flags(data, tmp_path / "run", *more)) == 0
    assert command.main(flags(data, tmp_path / "dies", *more[:2], "--strength", "40")) == 1
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert set(result["components"]["compact"].values()) == {5}


def test_the_average_is_advanced_by_training_steps_alone(data, tmp_path):
    """One step: a = decay w0 + (1 - decay) w1, though the model was asked many questions in between."""
    more = ("--steps", "1", "--method", "dense", "--dtype", "float64")
    assert command.main(flags(data, tmp_path / "run", *more)) == 0
    run, _ = load_run(tmp_path / "run" / "checkpoint.safetensors")
    corpus = command.load_corpus(SquadSettings.read(tmp_path / "run" / "config.json"))
    config = command.model_config(SquadSettings.read(tmp_path / "run" / "config.json"), corpus)
    layout = command.bidaf.layout(config)
    first = command.bidaf.init_params(config, layout, np.random.default_rng(0))
    model, _ = checkpoint.load(tmp_path / "run" / "model.safetensors")
    for array, values in model.items():
        np.testing.assert_allclose(values, 0.8 * first[array] + 0.2 * run.params[array], rtol=1e-12, atol=1e-15)


def test_the_released_way_makes_exact_zeros_one_by_one(data, tmp_path):
    more = ("--method", "released", "--strength", "0.1", "--threshold", "0.02", "--steps", "6")
    assert command.main(flags(data, tmp_path / "run", *more)) == 0
    run, _ = load_run(tmp_path / "run" / "checkpoint.safetensors")
    averages, _ = checkpoint.load(tmp_path / "run" / "model.safetensors")  # scored by the same rule
    features = {"words/kernel", "characters/kernel", "convolution/kernel", "convolution/bias"}
    features |= {f"highway{layer}/{part}" for layer in (0, 1) for part in ("kernel", "bias")}
    for params in (run.params, averages):
        small = {array for array, values in params.items() if values[np.abs(values) < 0.02].any()}
        assert small
        assert small <= features  # in no scope of the released code's threshold
        assert {array for array, values in params.items() if (values == 0).any()} - features


EXACT = 1000 * np.finfo(float).eps  # of sums of fewer than 1000 products, whose order a removal changes


@pytest.mark.parametrize("method", ["dense", "released"])
def test_the_released_groups_lose_what_the_attended_rows_read(data, tmp_path, monkeypatch, method):
    """The same removal, of a component of g1 whose group is all zero, by the groups of either method."""

    def without_a_group(settings, params):
        params = {array: np.array(values) for array, values in params.items()}
        params["g1.fw/bias"] += 1.0
        for array, axis, (_, start, _, counted) in layouts[0].occurrences("g1.fw"):
            if counted:
                params[array].swapaxes(0, axis)[start] = 0
        return params

    layouts = []

    def kept(settings, corpus):
        layouts.append(model_layout(settings, corpus))
        return layouts[-1]

    monkeypatch.setattr(command, "model_layout", kept)
    monkeypatch.setattr(command, "final_params", without_a_group)
    more = ("--method", method, "--strength", "0.001", "--threshold", "0", "--steps", "2", "--dtype", "float64")
    assert command.main(flags(data, tmp_path / "run", *more)) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["components"]["compact"]["g1.fw"] == 4
    lossless = EXACT * (1 + result["largest_logit"])
    assert (result["max_output_difference"] <= lossless) == (method == "dense")
    if method == "released":
        assert result["max_output_difference"] > 1e6 * lossless


def test_released_groups_have_the_sizes_that_its_code_prints(data, tmp_path):
    """4800, 4800, 3201, 3201, 6401, 6401 (bidaf/README.md 83-93); the attended rows are 800 more in g1."""
    files = {name: str(data / f"{name}.json") for name in ("train", "dev")} | {"glove": str(data / "glove.txt")}
    for method, g1 in (("released", 3201), ("prox", 4001)):
        settings = SquadSettings().replaced(method=method, word_size=5, **files)
        layout = command.model_layout(settings, command.load_corpus(settings))
        groups, _ = command.group_penalty(settings, layout)
        norms = group_norms({array: np.ones(layout.shape(array)) for array in layout.axes}, groups)
        sizes = [np.rint(each[0] ** 2) + 4 for each in groups.split(norms).values()]  # 4 are counted twice there
        assert sizes == [4800, 4800, g1, g1, 6401, 6401]


def test_the_header_says_which_questions_are_left_out_and_why(data, tmp_path, capsys):
    texts = json.loads((data / "train.json").read_text())["data"][0]["paragraphs"]
    articles = [{"title": str(k), "paragraphs": texts[k::4]} for k in range(4)]
    (tmp_path / "train.json").write_text(json.dumps({"data": articles, "version": "1.1"}))
    more = ("--train", str(tmp_path / "train.json"), "--articles", "3", "--steps", "1", "--method", "dense")
    assert command.main([*flags(data, tmp_path / "run"), *more]) == 0
    sentence = "33 of 44 training questions: of the first 3 articles (--articles), of at most 30 words, answered"
    assert sentence in capsys.readouterr().out


def test_a_run_that_starts_from_another_keeps_its_dead(data, finished, tmp_path):
    more = ("--init", str(finished), "--method", "dense", "--steps", "6")
    assert command.main(flags(data, tmp_path / "run", *more)) == 0
    before, after = (json.loads((run / "result.json").read_text()) for run in (finished, tmp_path / "run"))
    assert after["components"]["compact"] == before["components"]["compact"]


# ---------------------------------------------------------------- resume


def same_run(one, other):
    """All numbers of two runs are the same, bit for bit; only their times and memory differ."""
    for name in ("model.safetensors", "checkpoint.safetensors"):
        first, second = checkpoint.load(one / name)[0], checkpoint.load(other / name)[0]
        assert first.keys() == second.keys()
        for array, values in first.items():
            np.testing.assert_array_equal(values, second[array], strict=True, err_msg=array)
    first, second = map(rows_of, (one, other))
    timeless = {"seconds": 0, "resident_mb": 0}
    assert [{**row, **timeless} for row in first] == [{**row, **timeless} for row in second]
    assert (one / "predictions.json").read_text() == (other / "predictions.json").read_text()


@pytest.mark.parametrize(("stops", "number"), [((1,), signal.SIGTERM), ((13, 14, 22), signal.SIGINT)])
def test_an_interrupted_run_ends_with_the_same_numbers(
    stops, number, data, finished, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "run"
    interrupt_after(stops, number, monkeypatch)
    assert command.main(flags(data, out)) == 130
    assert sentence(capsys) == f"stopped; the last checkpoint is kept, resume with --resume {out}"
    for _ in stops[1:]:
        assert command.main(["--resume", str(out)]) == 130
    assert command.main(["--resume", str(out)]) == 0
    same_run(out, finished)


def test_each_epoch_asks_every_question_once_in_an_order_of_its_own(finished):
    settings = SquadSettings.read(finished / "config.json")
    corpus = command.load_corpus(settings)
    first, second = (np.concatenate(command.epoch_batches(settings, corpus, epoch)) for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(len(corpus.train)))
    assert (first != second).any()


def test_a_resumed_run_needs_its_own_settings_and_questions(data, tmp_path, capsys):
    own = tmp_path / "data"
    own.mkdir()
    for name in ("train.json", "dev.json", "glove.txt"):
        (own / name).write_bytes((data / name).read_bytes())
    assert command.main(flags(own, tmp_path / "run", "--steps", "1")) == 0
    capsys.readouterr()
    assert command.main(["--resume", str(tmp_path / "run"), "--strength", "7"]) == 2
    assert sentence(capsys) == "--resume: expected the run's own settings, got other values for ['strength']"
    (own / "dev.json").write_text(json.dumps(questions(3, 20)))
    assert command.main(["--resume", str(tmp_path / "run")]) == 2
    assert "--resume: expected the corpus with sha256" in sentence(capsys)


# ---------------------------------------------------------------- asked again


def test_eval_scores_the_compact_model_as_the_run_did(finished, capsys):
    before = (finished / "predictions.json").read_text()
    (finished / "predictions.json").unlink()
    assert command.main(["--eval", str(finished)]) == 0
    result = json.loads((finished / "result.json").read_text())
    assert f"F1 {result['dev_f1']['compact']:6.2f}" in capsys.readouterr().out
    assert (finished / "predictions.json").read_text() == before


def test_predict_prints_a_span_of_the_text_and_its_probability(finished, tmp_path, capsys):
    (tmp_path / "text").write_text("ban  kert\nliss unseen")
    asked = ["--question", "What follows ban?", "--context-file", str(tmp_path / "text")]
    assert command.main(["--predict", str(finished), *asked]) == 0
    *span, probability = capsys.readouterr().out.splitlines()
    assert "\n".join(span) in "ban  kert\nliss unseen"
    assert 0 < float(probability.removeprefix("probability ")) <= 1


@pytest.mark.parametrize(
    ("question", "text", "said"),
    [
        ("what?", b"caf\xe9", "{path}: expected UTF-8, got 0xe9 at byte offset 3"),
        ("what?", b" ", "--question and --context-file: expected a context with words, got ' '"),
        ("", b"text", "--question and --context-file: expected a question with words, got ''"),
        ("why " * 31, b"text", "--question: expected at most 30 words, got 31"),
        ("what?", None, "{path}: expected a readable file, got No such file or directory"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_sentence(question, text, said, finished, tmp_path, capsys):
    path = tmp_path / "text"
    if text is not None:
        path.write_bytes(text)
    assert command.main(["--predict", str(finished), "--question", question, "--context-file", str(path)]) == 2
    assert sentence(capsys) == said.format(path=path)


# ---------------------------------------------------------------- bad input: a sentence, and nothing written


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--batch", "0"), "--batch: expected a number greater than or equal to 1, got 0"),
        (("--strength", "1", "2"), "--strength: expected one number or one for each of 6 layers, got 2"),
        (("--strength", "-1"), "--strength: expected a number greater than or equal to 0, got -1.0"),
        (("--keep", "0"), "--keep: expected a number greater than 0, got 0.0"),
        (("--average", "1"), "--average: expected a number less than 1, got 1.0"),
        (("--final-rate", "1.5"), "--final-rate: expected a number less than or equal to 1, got 1.5"),
        (("--word-size", "7"), "{data}/glove.txt: expected 7 numbers after each word, got 5 in line 1"),
        (
            ("--dev-limit", "5"),
            "--dev-limit: expected a dev question with a context of at most 5 words, got 6 words in the shortest",
        ),
        (("--train", "nowhere"), "nowhere: expected a file, got none"),
        (("--context-limit", "1"), "train: expected a question of 30 words answered in 1, got none"),
        (
            ("--predict", "run"),
            "--out, --resume, --eval, --predict: expected one of them at most, got --out --predict",
        ),
        (("--small", "--preset", "paper"), "--small: expected --preset small or none, got --preset paper"),
    ],
)
def test_bad_input_is_a_sentence_and_exit_code_2(more, said, data, tmp_path, capsys):
    assert command.main(flags(data, tmp_path / "run", *more)) == 2
    assert sentence(capsys).removeprefix(f"{os.getcwd()}/") == said.format(data=data)
    assert not (tmp_path / "run").exists()


def test_impossible_questions_are_refused_before_anything_is_written(data, tmp_path, capsys):
    (tmp_path / "v2.json").write_text(json.dumps(questions(2, 3) | {"version": "v2.0"}))
    assert command.main(flags(data, tmp_path / "run", "--dev", str(tmp_path / "v2.json"))) == 2
    assert sentence(capsys) == "dev: expected SQuAD v1.1, got version 'v2.0'"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "damage", ["[]", "{", '{"model": "lstm"}', "[" * 100_000], ids=["list", "cut", "other", "deep"]
)
def test_damaged_settings_are_refused(damage, tmp_path, capsys):
    (tmp_path / "config.json").write_text(damage)
    assert command.main(["--resume", str(tmp_path)]) == 2
    assert "expected" in sentence(capsys)


def test_a_limit_that_no_dev_question_keeps_is_refused_by_eval(finished, capsys):
    before = (finished / "predictions.json").read_bytes()
    assert command.main(["--eval", str(finished), "--dev-limit", "5"]) == 2
    assert sentence(capsys).startswith("--dev-limit: expected a dev question")
    assert (finished / "predictions.json").read_bytes() == before


@pytest.mark.parametrize("changed", ["words", "characters"])
def test_init_refuses_the_model_of_other_words_or_characters(changed, data, finished, tmp_path, capsys):
    params, about = checkpoint.load(finished / "model.safetensors")
    about[changed] = about[changed][::-1]
    checkpoint.save(tmp_path / "model.safetensors", params, **about)
    assert command.main(flags(data, tmp_path / "run", "--init", str(tmp_path))) == 2
    needed = f"--init: {tmp_path}: expected the {changed} of questions in SQuAD's form, got others"
    assert sentence(capsys) == needed
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("changed", ["words", "characters"])
def test_eval_and_predict_refuse_a_model_of_other_sizes_than_its_settings(changed, finished, tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_bytes((finished / "config.json").read_bytes())
    params, about = checkpoint.load(finished / "model.safetensors")
    for value, said in (
        (about[changed][:-1], "expected a model of sizes {"),
        ("ab", f"{changed}: expected a list"),
    ):
        checkpoint.save(folder / "model.safetensors", params, **{**about, changed: value})
        for arguments in (["--eval", str(folder)], ["--predict", str(folder), "--context-file", __file__]):
            assert command.main(arguments) == 2
            assert said in sentence(capsys)


def test_an_error_after_the_last_step_is_not_one_of_training(data, tmp_path, monkeypatch, capsys):
    def full(*arguments):
        raise OSError("no space")

    monkeypatch.setattr(command, "finish", full)
    assert command.main(flags(data, tmp_path / "run", "--steps", "1")) == 1
    kept = f"the last checkpoint is kept, resume with --resume {tmp_path / 'run'}"
    assert sentence(capsys) == f"no space; {kept}"


def test_predict_needs_a_text(finished, capsys):
    assert command.main(["--predict", str(finished), "--question", "what?"]) == 2
    assert sentence(capsys) == "--predict: expected --question and --context-file, got no --context-file"


@pytest.mark.parametrize("flag", ["--resume", "--eval"])
def test_a_folder_without_a_run_is_refused(flag, tmp_path, capsys):
    assert command.main([flag, str(tmp_path)]) == 2
    assert "expected the settings of a run, got none" in sentence(capsys)


def test_lstms_that_die_out_stop_the_run_in_words(data, tmp_path, capsys):
    assert command.main(flags(data, tmp_path / "run", "--strength", "500")) == 1
    said = sentence(capsys)
    assert said.startswith("epoch 1, step ")
    assert said.endswith(
        "have died, which a new run with a lower --strength prevents; the last checkpoint is kept"
    )


def test_a_run_by_the_released_code_s_updates_can_be_evaluated_and_continued(data, tmp_path, capsys):
    """Its layout marks other rows as penalised; its arrays are the same."""
    run = tmp_path / "run"
    assert command.main(flags(data, run, "--method", "released")) == 0
    capsys.readouterr()
    assert command.main(["--eval", str(run)]) == 0
    assert "F1" in capsys.readouterr().out
    assert command.main(flags(data, tmp_path / "next", "--init", str(run), "--method", "dense")) == 0


def test_a_run_that_cannot_be_written_to_is_scored_nevertheless(finished, monkeypatch, capsys):
    def refused(path, content):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("issref.squad.evaluation.write_json", refused)
    assert command.main(["--eval", str(finished)]) == 1
    said = capsys.readouterr()
    assert "F1" in said.out
    assert "predictions.json" in said.err


@pytest.mark.parametrize("given", [["--question", "Who?"], ["--context-file", "text.txt"]])
def test_a_question_without_a_run_is_refused(given, capsys):
    assert command.main(given) == 2
    assert sentence(capsys) == "--question and --context-file: expected --predict too, got none"


# ---------------------------------------------------------------- settings


def test_the_paper_preset_is_the_published_configuration():
    expected = {"hidden_size": 100, "filters": 100, "char_size": 8, "word_size": 100, "batch": 60, "steps": 10_000}
    expected |= {"learning_rate": 1e-3, "final_rate": 1.0, "average": 0.999, "clip": None, "question_limit": 30}
    expected |= {"context_limit": 400, "threshold": 4e-4, "dev_limit": None}
    assert {name: PRESETS["paper"].flat()[name] for name in expected} == expected


def test_the_rate_falls_in_a_straight_line():
    schedule = ScheduleOptions(learning_rate=2.0, final_rate=0.1, steps=100)
    assert [schedule.rate(step) for step in (0, 50, 100)] == pytest.approx([2.0, 1.1, 0.2])


def test_help_names_every_setting_and_loads_neither_numba_nor_matplotlib():
    code = (
        "import sys, issref.train_squad as t\n"
        "try: t.main(['--help'])\n"
        "except SystemExit: print([m for m in ('numba', 'matplotlib', 'pooch') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1] == "[]"
    for word in ("--small", "--preset", "--strength", "--predict", "--question", "--context-file", "--eval", "GB"):
        assert word in shown
