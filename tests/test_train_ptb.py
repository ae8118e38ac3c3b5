"""The main job on a small text: what it writes, how it resumes, how it fails."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from tolerances import largest_difference, nudged

from issref import Layout, expand, report
from issref import train_ptb as command
from issref.data import corpus as corpora
from issref.data import download
from issref.models import ptb_lstm
from issref.ptb.evaluation import perplexity, perplexity_recorder
from issref.ptb.settings import Settings
from issref.training import checkpoint, console
from issref.training.runs import load_run, save_run


@pytest.fixture(scope="session")
def text(tmp_path_factory):
    """A folder with a text of 30 words in which each word has two likely followers."""
    folder, rng = tmp_path_factory.mktemp("text"), random.Random(0)
    for name, lines in (("train", 300), ("valid", 40), ("test", 40)):
        sentences = []
        for _ in range(lines):
            word, words = rng.randrange(30), []
            for _ in range(12):
                words.append(f"w{word}")
                word = (word * 7 + rng.choice((1, 1, 1, 5))) % 30
            sentences.append(" ".join(words) + "\n")
        (folder / f"{name}.txt").write_text("".join(sentences))
    return folder


def flags(text, out, *more):
    sizes = (
        "--preset zaremba-small --hidden-sizes 12 10 --batch 4 --steps 8 --epochs 3 --init-scale 0.3 "
        "--strength 0.009 0.012 --threads 1"
    )
    return ["--corpus", str(text), "--out", str(out), *sizes.split(), *more]


@pytest.fixture(autouse=True)
def without_figures(monkeypatch):
    """Only the runs that the tests share draw theirs: it takes longer than to train."""
    monkeypatch.setattr(report, "draw_run", lambda *arguments: [])


@pytest.fixture(scope="session")
def finished(text, tmp_path_factory):
    """The folder of a whole run, with dropout, in which components die in both layers."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert command.main(flags(text, out, "--keep", "0.9")) == 0
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
    assert names >= {
        "config.json",
        "metrics.jsonl",
        "history.jsonl",
        "model.safetensors",
        "checkpoint.safetensors",
        "result.json",
    }
    assert {"training.png", "weights.png", "norms.png"} <= names
    assert not [name for name in names if name.endswith(".partial")]
    result = json.loads((finished / "result.json").read_text())
    full, small = (result["components"][one] for one in ("full", "compact"))
    assert full == {"lstm0": 12, "lstm1": 10}
    assert 0 < small["lstm0"] < 12
    assert 0 < small["lstm1"] < 10
    assert result["parameters"]["compact"] < result["parameters"]["full"]
    assert result["max_output_difference"] <= 1e-5 * result["largest_logit"]
    for split in ("valid_perplexity", "test_perplexity"):
        assert result[split]["compact"] == pytest.approx(result[split]["full"], rel=1e-5)
    assert result["corpus"]["sha256"]
    assert {"python", "numpy", "numba", "blas"} <= result["versions"].keys()
    rows = rows_of(finished)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert rows[-1]["alive"] == small


RHN = (
    "--preset rhn-small --hidden-sizes 32 --depth 2 --drops 0.1 0.1 0.1 0.1 --batch 4 --steps 8 --epochs 3 "
    "--init-scale 0.3 --transform-bias 0 --strength 0.1 --learning-rate 0.4 --threads 1 --weight-decay 1e-4"
)
CALM = {  # a path on which rounding does not grow fast
    "lstm": "--dtype float64 --keep 0.9 --learning-rate 0.4 --strength 0.013 0.013",
    "gru": "--model gru --dtype float64 --keep 0.9 --learning-rate 0.15 --strength 0.05 0.05",
    "rhn": f"{RHN} --dtype float64 --selection last",
}


@pytest.fixture(scope="session", params=CALM)
def run_of(request, text, tmp_path_factory):
    """A function: folder and losses, step by step, of the calm run with more flags or other first weights."""

    def run(*more, init_params=command.shell.init_params):
        out, losses, advance = tmp_path_factory.mktemp("runs") / "calm", [], console.advance
        common = flags(text, out)[:4] if request.param == "rhn" else flags(text, out)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(console, "advance", lambda *args: (losses.append(args[1].loss_sum), advance(*args)))
            patch.setattr(command.shell, "init_params", init_params)
            assert command.main([*common, *CALM[request.param].split(), *more]) == 0
        return out, np.array(losses)

    return run


@pytest.fixture(scope="session")
def both_ways(run_of):
    """The folders and the losses of the same run in float64, with the arrays cut at each death and with zeros
    kept."""
    return tuple(zip(*(run_of(way) for way in ("--shrink", "--no-shrink")), strict=True))


def test_the_zeros_are_the_proximal_steps_own(both_ways):
    (_, kept), _ = both_ways
    run, _ = load_run(kept / "checkpoint.safetensors")
    params, about = checkpoint.load(kept / "model.safetensors")
    full, _ = expand(params, Layout.from_json(json.dumps(about["layout"])), run.alive)
    for array, values in run.params.items():  # nothing but whole components is zero, biases included
        np.testing.assert_array_equal(values, full[array])


def test_cutting_components_out_as_they_die_leaves_the_path_as_it_is(both_ways, run_of):
    """The sums that a cut shortens round otherwise: to no more than all that the steps may round, made at once."""
    folders, losses = both_ways
    steps = len(losses[0])
    assert steps >= 200
    nudged_run, nudged_losses = run_of("--no-shrink", init_params=nudged(command.shell.init_params, steps))
    summed = steps * np.finfo(float).eps * losses[1].max()  # a loss here is the sum of all in its epoch so far
    assert np.abs(losses[0] - losses[1]).max() <= np.abs(nudged_losses - losses[1]).max() + summed
    for run in folders:
        living = [point["alive"] for row in rows_of(run) for point in row["trace"]]
        assert len({tuple(counts.values()) for counts in living}) > 2  # several deaths on the way
    small, kept, moved = (checkpoint.load(run / "model.safetensors")[0] for run in (*folders, nudged_run))
    allowed = largest_difference(moved, kept)
    assert allowed <= 1e-9  # a path on which rounding grew so far would tell nothing
    assert largest_difference(small, kept) <= allowed
    run, _ = load_run(folders[0] / "checkpoint.safetensors")
    for array, values in run.params.items():
        assert values.shape == small[array].shape


def test_after_the_penalty_epochs_a_run_goes_on_as_a_dense_one_from_its_weights(text, tmp_path, capsys):
    """Two epochs, the penalty in the first: one epoch with it, then `--init` of that and one without."""
    calm = ("--dtype", "float64", "--learning-rate", "0.5", "--strength", "0.01", "0.014")
    first, both, alone, pressed = (tmp_path / name for name in ("first", "both", "alone", "pressed"))
    assert command.main(flags(text, first, *calm, "--epochs", "1")) == 0
    assert command.main(flags(text, both, *calm, "--epochs", "2", "--penalty-epochs", "1")) == 0
    assert "prox, strength 0.01 0.014 to epoch 1, then dense" in capsys.readouterr().out
    dense = ("--method", "dense", "--init", str(first))
    assert command.main(flags(text, alone, *calm, "--epochs", "1", *dense)) == 0
    assert command.main(flags(text, pressed, *calm, "--epochs", "2")) == 0
    counts = {run: rows_of(run)[-1]["alive"] for run in (first, both, pressed)}
    assert counts[first] == counts[both] != counts[pressed]
    models = [checkpoint.load(run / "model.safetensors")[0] for run in (both, alone)]
    for array, values in models[0].items():  # no one died before: the same sums in the same order
        np.testing.assert_array_equal(values, models[1][array], strict=True)


@pytest.mark.parametrize("method", ["prox", "released", "l1"])
def test_after_the_penalty_epochs_the_rest_of_a_strength_acts_as_that_share_of_it_alone(
    method, text, tmp_path, capsys, monkeypatch
):
    """Two epochs, a quarter of the penalty in the second: one epoch with it, then `--init` of that and one with a
    quarter."""
    start = command.start

    def warm_start(*arguments):  # with the first run's shares: prox goes on from these in the run that is compared
        begun = start(*arguments)
        begun[1].optimizer_state = load_run(first / "checkpoint.safetensors")[0].optimizer_state
        return begun

    calm = ("--dtype", "float64", "--learning-rate", "0.5", "--method", method)
    whole = ("--strength", "0.01", "0.014", "--l1-strength", "4e-4")
    quarter = ("--strength", "0.0025", "0.0035", "--l1-strength", "1e-4")
    first, both, alone, dense = (tmp_path / name for name in ("first", "both", "alone", "dense"))
    lasting = ("--epochs", "2", "--penalty-epochs", "1")
    assert command.main(flags(text, first, *calm, *whole, "--epochs", "1")) == 0
    assert command.main(flags(text, both, *calm, *whole, *lasting, "--final-penalty-scale", "0.25")) == 0
    assert "to epoch 1, then 0.25 of it" in capsys.readouterr().out
    with monkeypatch.context() as patch:
        patch.setattr(command, "start", warm_start)
        assert command.main(flags(text, alone, *calm, *quarter, "--epochs", "1", "--init", str(first))) == 0
    assert command.main(flags(text, dense, *calm, *whole, *lasting)) == 0
    rested, apart, let_go = (checkpoint.load(run / "model.safetensors")[0] for run in (both, alone, dense))
    for array, values in rested.items():
        np.testing.assert_array_equal(values, apart[array], strict=True)
    assert any(
        values.shape != let_go[array].shape or (values != let_go[array]).any() for array, values in rested.items()
    )


def test_each_cut_is_recorded_with_the_difference_it_made(both_ways):
    (shrunk, kept), _ = both_ways
    cuts = [cut for row in rows_of(shrunk) for cut in row["cuts"]]
    result = json.loads((shrunk / "result.json").read_text())
    assert len(cuts) == result["cuts"]["count"] > 2
    assert max(cut["max_output_difference"] for cut in cuts) <= 1e-12 * result["largest_logit"]
    assert cuts[-1]["alive"] == result["components"]["compact"]
    assert [cut for row in rows_of(kept) for cut in row["cuts"]] == []  # nothing was cut


def test_in_float64_full_and_compact_agree_to_rounding(both_ways):
    for run in both_ways[0]:
        result = json.loads((run / "result.json").read_text())
        assert result["components"]["compact"] != result["components"]["full"]
        assert result["max_output_difference"] <= 1e-12 * result["largest_logit"]


def test_the_final_table_is_shown_and_names_the_corpus(text, tmp_path, capsys):
    assert command.main(flags(text, tmp_path / "run", "--epochs", "1", "--method", "dense")) == 0
    shown = capsys.readouterr().out
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    for word in ("components", "parameters", "multiply-adds", "valid perplexity", result["corpus"]["sha256"]):
        assert word in shown
    assert f"{result['test_perplexity']['compact']:.3f}" in shown
    assert result["components"]["compact"] == {"lstm0": 12, "lstm1": 10}


@pytest.mark.parametrize("method", ["released", "l1"])
def test_the_elementwise_methods_make_exact_zeros(method, text, tmp_path):
    more = ("--method", method, "--threshold", "0.02", "--epochs", "1")
    assert command.main(flags(text, tmp_path / "run", *more)) == 0
    run, _ = load_run(tmp_path / "run" / "checkpoint.safetensors")
    weights = np.concatenate([values.ravel() for values in run.params.values()])
    assert (weights == 0).any()
    assert not ((weights != 0) & (np.abs(weights) < 0.02)).any()


# ---------------------------------------------------------------- resume


def same_run(one, other, planned_alike=True):
    """All numbers of two runs are the same, bit for bit; only their times differ."""
    for name in ("model.safetensors", "checkpoint.safetensors"):
        first, second = checkpoint.load(one / name)[0], checkpoint.load(other / name)[0]
        assert first.keys() == second.keys()
        for array, values in first.items():
            np.testing.assert_array_equal(values, second[array], strict=True, err_msg=array)
    first, second = map(rows_of, (one, other))
    measured = {"seconds": 0, "resident_mb": 0}
    assert [{**row, **measured} for row in first] == [{**row, **measured} for row in second]
    if planned_alike:  # the steps whose norms are recorded depend on the number of epochs at the start
        assert (one / "history.jsonl").read_text() == (other / "history.jsonl").read_text()


def interrupt_after(steps, number, monkeypatch):
    """Send this process a signal after each of these steps, counted over all resumed runs."""
    advance, done = console.advance, [0]

    def interrupted(*arguments):
        advance(*arguments)
        done[0] += 1
        if done[0] in steps:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(console, "advance", interrupted)


@pytest.mark.parametrize(
    ("stops", "number"), [((1,), signal.SIGINT), ((30, 31), signal.SIGTERM), ((121, 200), signal.SIGINT)]
)
def test_an_interrupted_run_ends_with_the_same_numbers(
    stops, number, text, finished, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "run"
    interrupt_after(stops, number, monkeypatch)
    assert command.main(flags(text, out, "--keep", "0.9")) == 130
    assert sentence(capsys) == f"stopped; the last checkpoint is kept, resume with --resume {out}"
    for _ in stops[1:]:
        assert command.main(["--resume", str(out)]) == 130
    assert command.main(["--resume", str(out)]) == 0
    same_run(out, finished)


@pytest.fixture(scope="session")
def finished_rhn(text, tmp_path_factory):
    """The folder of a whole run of a highway network, with every mask and the weights of the best epoch."""
    out = tmp_path_factory.mktemp("runs") / "rhn"
    assert command.main([*flags(text, out)[:4], *RHN.split()]) == 0
    return out


def test_a_highway_network_interrupted_twice_ends_with_the_same_numbers(text, finished_rhn, tmp_path, monkeypatch):
    out = tmp_path / "run"
    interrupt_after((60, 250), signal.SIGINT, monkeypatch)
    assert command.main([*flags(text, out)[:4], *RHN.split()]) == 130
    assert command.main(["--resume", str(out)]) == 130
    assert command.main(["--resume", str(out)]) == 0
    same_run(out, finished_rhn)


def test_the_weights_of_the_best_epoch_are_those_a_run_ends_with(text, tmp_path):
    """Training goes on after the best epoch, here by a rate that spoils it, and the best epoch's weights stay."""
    wild = "--epochs 3 --method dense --flat-epochs 2 --decay 100"
    assert command.main([*flags(text, tmp_path / "run")[:4], *RHN.split(), *wild.split()]) == 0
    rows = rows_of(tmp_path / "run")
    assert rows[2]["valid_perplexity"] > 2 * rows[1]["valid_perplexity"]
    best, _ = load_run(tmp_path / "run" / "best.safetensors")
    params, _ = checkpoint.load(tmp_path / "run" / "model.safetensors")
    for array, values in params.items():
        np.testing.assert_array_equal(values, best.params[array])
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["valid_perplexity"]["full"] < 1.5 * rows[1]["valid_perplexity"]


def test_the_released_way_of_an_rhn_thresholds_its_matrices_and_spares_its_biases(text, tmp_path):
    more = "--method released --threshold 0.02 --epochs 1 --weight-decay 0"
    assert command.main([*flags(text, tmp_path / "run")[:4], *RHN.split(), *more.split()]) == 0
    run, _ = load_run(tmp_path / "run" / "checkpoint.safetensors")
    matrices, biases = (
        np.concatenate([values.ravel() for values in run.params.values() if values.ndim == axes])
        for axes in (2, 1)
    )
    assert (matrices == 0).any()
    assert not ((matrices != 0) & (np.abs(matrices) < 0.02)).any()
    assert (biases != 0).all()
    assert (np.abs(biases) < 0.02).any()


def test_a_run_can_be_resumed_for_more_epochs_but_not_with_other_settings(text, finished, tmp_path, capsys):
    out = tmp_path / "run"
    assert command.main(flags(text, out, "--keep", "0.9", "--epochs", "2")) == 0
    capsys.readouterr()
    assert command.main(["--resume", str(out), "--strength", "0.5"]) == 2
    assert sentence(capsys) == "--resume: expected the run's own settings, got other values for ['strength']"
    assert command.main(["--resume", str(out), "--epochs", "3"]) == 0
    same_run(out, finished, planned_alike=False)


@pytest.mark.parametrize("given", [["--preset", "zaremba-medium"], ["--small"]])
@pytest.mark.parametrize("flag", ["--resume", "--eval"])
def test_a_preset_is_not_ignored_where_the_run_has_its_own_settings(flag, given, finished, capsys):
    assert command.main([flag, str(finished), *given]) == 2
    assert sentence(capsys) == f"{flag}: expected the run's own settings, got {given[0]}"


@pytest.mark.parametrize("stop", [241, 360])
def test_a_run_ended_early_is_a_run_of_fewer_epochs(stop, text, finished, tmp_path, monkeypatch):
    """It was to have nine epochs, and is stopped in its third: in the middle, or after its last step."""
    out = tmp_path / "run"
    interrupt_after((stop,), signal.SIGINT, monkeypatch)
    assert command.main(flags(text, out, "--keep", "0.9", "--epochs", "9")) == 130
    assert command.main(["--resume", str(out), "--epochs", "3"]) == 0
    same_run(out, finished, planned_alike=False)


def test_a_resumed_run_needs_the_same_text(text, finished, tmp_path, capsys):
    other = tmp_path / "text"
    other.mkdir()
    for name in ("train", "valid", "test"):
        (other / f"{name}.txt").write_text((text / f"{name}.txt").read_text())
    assert command.main(flags(other, tmp_path / "run", "--epochs", "1")) == 0
    with (other / "test.txt").open("a") as file:
        file.write("w1 w2\n")
    capsys.readouterr()
    assert command.main(["--resume", str(tmp_path / "run"), "--epochs", "2"]) == 2
    assert "--resume: expected the corpus with sha256" in sentence(capsys)


# ---------------------------------------------------------------- evaluation


def test_batch_1_in_windows_is_batch_1_word_by_word(finished, text):
    params, _ = checkpoint.load(finished / "model.safetensors")
    test = corpora.load(str(text)).test
    word_by_word = perplexity(ptb_lstm, params, test, 1, 1)
    for window in (2, 7, 100, len(test) - 1):
        assert perplexity(ptb_lstm, params, test, 1, window) == pytest.approx(word_by_word, rel=1e-5)


def test_eval_shows_the_headline_and_names_the_other_protocol(finished, capsys):
    assert command.main(["--eval", str(finished), "--split", "valid"]) == 0
    shown = capsys.readouterr().out
    result = json.loads((finished / "result.json").read_text())
    assert f"{result['valid_perplexity']['compact']:.4f}" in shown
    assert "another protocol" in shown
    assert "word by word" in shown


def fewer_words(params, about):
    """A model that is whole, but of a vocabulary with one word less than the corpus."""
    about["layout"]["sizes"]["word"] -= 1
    layout = Layout.from_json(json.dumps(about["layout"]))
    return {name: values[tuple(map(slice, layout.shape(name)))] for name, values in params.items()}


def a_mask_too_long(params, about):
    about["alive"]["lstm0"].append(False)
    return params


def a_mask_of_numbers(params, about):
    about["alive"]["lstm0"] = [1, 0]
    return params


def another_count(params, about):
    about["alive"]["lstm0"] = [True] * len(about["alive"]["lstm0"])
    return params


def no_floats(params, about):
    return {name: values.astype(np.int8) for name, values in params.items()}


def no_numbers(params, about):
    params["lstm0/bias"][0] = np.nan
    return params


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (fewer_words, "expected a model of sizes {"),
        (a_mask_too_long, "expected a model of sizes {"),
        (a_mask_of_numbers, "alive, lstm0: expected booleans, got [1, 0]"),
        (another_count, "expected the layout of its settings without its dead components, got another"),
        (no_floats, "expected finite numbers in float32 or float64, got int8"),
        (no_numbers, "lstm0/bias: expected finite numbers in float32 or float64, got others"),
    ],
)
@pytest.mark.parametrize("flag", ["--eval", "--init"])
def test_a_model_that_does_not_fit_its_text_or_settings_is_refused(
    flag, change, said, finished, text, tmp_path, capsys
):
    folder = shutil.copytree(finished, tmp_path / "run")
    params, about = checkpoint.load(folder / "model.safetensors")
    checkpoint.save(folder / "model.safetensors", change(params, about), **about)
    new = flags(text, tmp_path / "new") if flag == "--init" else []
    assert command.main([flag, str(folder), *new]) == 2
    assert said in sentence(capsys)
    assert not (tmp_path / "new").exists()


# ---------------------------------------------------------------- bad input: a sentence and an exit code


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--batch", "0"), "--batch: expected a number greater than or equal to 1, got 0"),
        (("--hidden-sizes", "-5"), "--hidden-sizes: expected a number greater than or equal to 1, got -5"),
        (("--init-scale", "inf"), "--init-scale: expected a finite number, got inf"),
        (
            ("--strength", "1", "2", "3"),
            "--strength: expected one number or one for each of 2 layers, got 3",
        ),
        (("--small",), "--small: expected --preset small or none, got --preset zaremba-small"),
        (
            ("--model", "rhn"),
            "--hidden-sizes: expected one width, for the embedding of --model rhn too, got ",
        ),
        (("--drops", "0", "0", "0", "1"), "--drops: expected a number less than 1, got 1.0"),
        (("--final-penalty-scale", "0.4"), "--final-penalty-scale: expected --penalty-epochs too, got 0.4 alone"),
        (("--resume", "run"), "--out, --resume, --eval: expected one of them at most, got --out --resume"),
        (("--corpus", "nowhere"), "corpus: expected auto, ptb, embedded or a folder"),
        (("--steps", "5000"), "windows: expected 20004 words for 4 x 5000 steps, got 3900"),
        (
            ("--data-dir", "nowhere", "--corpus", "ptb"),
            "data-dir nowhere: expected ptb/ptb.train.txt, got No such file",
        ),
    ],
)
def test_bad_input_is_a_sentence_and_exit_code_2(more, said, text, tmp_path, capsys):
    assert command.main(flags(text, tmp_path / "run", *more)) == 2
    assert sentence(capsys).startswith(said)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("more", [("--no-such-flag", "1"), ("--batch", "twenty"), ("--method", "magic")])
def test_what_the_command_line_cannot_mean_is_exit_code_2(more, text, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(flags(text, tmp_path / "run", *more))
    assert ended.value.code == 2
    assert not (tmp_path / "run").exists()


def test_any_number_of_layers_trains_without_naming_a_strength_for_each(text, tmp_path):
    more = ("--method", "dense", "--epochs", "1", "--hidden-sizes", "5", "4", "3")
    assert command.main(flags(text, tmp_path / "run", *more)) == 0


@pytest.mark.parametrize(
    "damage",
    [
        "[]",
        "null",
        "{",
        '{"momentum": 1}',
        '{"schedule": {"momentum": 1}}',
        '{"schedule": 1}',
        '{"penalty": {"method": "magic"}}',
        '{"run": {"dtype": "int8"}}',
        "[" * 100_000,
    ],
    ids=["list", "null", "cut", "unknown", "unknown inside", "no part", "magic", "int8", "deep"],
)
def test_damaged_settings_are_refused(damage, finished, tmp_path, capsys):
    (tmp_path / "config.json").write_text(damage)
    (tmp_path / "checkpoint.safetensors").write_bytes((finished / "checkpoint.safetensors").read_bytes())
    assert command.main(["--resume", str(tmp_path)]) == 2
    assert "expected" in sentence(capsys)


def test_the_choice_of_auto_is_the_runs_choice_from_then_on(text, tmp_path, monkeypatch):
    monkeypatch.chdir(text.parent)
    assert command.main(flags(text.name, tmp_path / "run", "--epochs", "1", "--method", "dense")) == 0
    monkeypatch.chdir(tmp_path)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["data"]["corpus"] == str(text)
    assert command.main(["--eval", str(tmp_path / "run")]) == 0


def test_the_quick_run_has_the_preset_of_its_text(tmp_path, monkeypatch):
    """Without Penn TreeBank it reads the embedded text with that text's schedule; --help looks for nothing."""
    looked = []

    def without_ptb(data_dir):
        looked.append(data_dir)
        raise download.NotDownloaded("no network")

    monkeypatch.setattr(corpora.ptb, "read", without_ptb)
    on_embedded = command.PRESETS["small-embedded"]
    for words in (["--small"], []):
        assert command.parse(words).settings == on_embedded
    assert len(looked) == 2
    assert command.parse(["--corpus", "embedded", "--method", "dense"]).settings.changed(on_embedded) == {"method"}
    assert command.parse(["--small", "--corpus", "ptb"]).settings.changed(command.PRESETS["small"]) == {"corpus"}
    with pytest.raises(SystemExit):
        command.parse(["--help"])
    assert len(looked) == 2
    monkeypatch.setattr(corpora.ptb, "read", lambda data_dir: ({}, "here"))
    assert command.parse([]).settings == command.PRESETS["small"]


@pytest.mark.parametrize("flag", ["--eval", "--init"])
def test_a_run_that_has_not_ended_has_no_model_yet(flag, finished, text, tmp_path, capsys):
    for name in ("config.json", "checkpoint.safetensors"):
        (tmp_path / name).write_bytes((finished / name).read_bytes())
    more = [] if flag == "--eval" else flags(text, tmp_path / "run")
    assert command.main([flag, str(tmp_path), *more]) == 2
    assert sentence(capsys).endswith(f"expected a finished run, got one to be resumed with --resume {tmp_path}")


@pytest.mark.parametrize("flag", ["--resume", "--eval"])
def test_a_folder_without_a_run_is_refused(flag, tmp_path, capsys):
    assert command.main([flag, str(tmp_path)]) == 2
    assert "expected" in sentence(capsys)


def test_a_checkpoint_of_another_layout_is_refused(finished, text, tmp_path, capsys):
    out = tmp_path / "run"
    assert command.main(flags(text, out, "--epochs", "1")) == 0
    run, about = load_run(out / "checkpoint.safetensors")
    run.params["lstm0/kernel"] = run.params["lstm0/kernel"][:, :-4]
    save_again(out / "checkpoint.safetensors", run, about)
    capsys.readouterr()
    assert command.main(["--resume", str(out), "--epochs", "2"]) == 2
    assert (
        sentence(capsys) == "lstm0/kernel: expected shape (24, 48) for axes (embed + lstm0, 4 lstm0), got (24, 44)"
    )


def save_again(path, run, about):
    """Write a checkpoint that was read and changed."""
    recorder = perplexity_recorder(Settings())
    recorder.restore(about.pop("measured"))
    save_run(path, run, recorder, **about)


def test_a_diverging_run_stops_by_step_and_keeps_its_checkpoint(text, tmp_path, capsys):
    out = tmp_path / "run"
    assert command.main(flags(text, out, "--epochs", "1", "--method", "dense")) == 0
    run, about = load_run(out / "checkpoint.safetensors")
    run.params["softmax/bias"][3] = np.inf
    save_again(out / "checkpoint.safetensors", run, about)
    _, before = checkpoint.load(out / "checkpoint.safetensors")
    capsys.readouterr()
    with np.errstate(invalid="ignore"):
        assert command.main(["--resume", str(out), "--epochs", "2"]) == 1
    said = sentence(capsys)
    advice = "a new run with a lower --learning-rate may prevent it; the last checkpoint is kept"
    assert said == f"epoch 2, step 1: the gradient's norm is nan; {advice}"
    _, after = checkpoint.load(out / "checkpoint.safetensors")
    assert after.keys() == before.keys()
    for name in after.keys() - {"settings"}:  # which has the new --epochs
        assert after[name] == before[name], name


def test_a_layer_that_dies_out_stops_the_run_in_words(text, tmp_path, capsys):
    assert command.main(flags(text, tmp_path / "run", "--strength", "0.5")) == 1
    said = sentence(capsys)
    assert said.endswith(
        "have died, which a new run with a lower --strength prevents; the last checkpoint is kept"
    )


def test_a_full_disk_stops_the_run_and_loses_nothing(text, tmp_path, capsys):
    out = tmp_path / "run"
    assert command.main(flags(text, out, "--epochs", "1")) == 0
    before = (out / "checkpoint.safetensors").read_bytes()
    capsys.readouterr()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        assert command.main(["--resume", str(out), "--epochs", "2"]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "File too large" in sentence(capsys)
    assert (out / "checkpoint.safetensors").read_bytes() == before
    assert not list(out.glob("*.partial"))


# ---------------------------------------------------------------- start-up


def test_help_is_quick_and_names_every_setting():
    def run():
        """Processor time, which does not depend on what else the machine does, and the text."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-m", "issref.train_ptb", "--help"], capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout

    seconds, shown = min(run() for _ in range(3))
    assert seconds < 1.5
    for word in (
        "--small",
        "--preset",
        "--strength",
        "--hidden-sizes",
        "--resume",
        "--eval",
        "--corpus",
        "--method",
    ):
        assert word in shown


def test_help_loads_neither_numba_nor_matplotlib():
    code = "import sys, issref.train_ptb; print([m for m in ('numba', 'matplotlib', 'pooch') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
