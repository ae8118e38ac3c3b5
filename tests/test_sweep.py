"""Settings with lists become runs; the runs survive what happens to long sweeps, here and on a cluster."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import quick_ptb
from hypothesis import given, settings
from hypothesis import strategies as st

from issref import compact, train_ptb
from issref.iss.groups import group_norms, iss_groups
from issref.models import ptb_lstm
from issref.ptb.evaluation import model_config
from issref.ptb.settings import PRESETS
from issref.sweep import command, frontier, grid, process
from issref.sweep.task import COMMANDS
from issref.training import checkpoint
from issref.training.models import load_initial_params
from issref.training.options import flattened
from issref.training.runs import LAST, run_lock

HERE = Path(__file__).parent
SIZES = "--preset zaremba-small --hidden-sizes 12,10 --batch 4 --steps 16 --init-scale 0.3"


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


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Runs of `quick_ptb`, here and in every process that is started."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(COMMANDS, "ptb", replace(COMMANDS["ptb"], command=quick_ptb))
        patch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)
        yield


def flags(text, out, *more):
    return [*SIZES.split(), "--corpus", str(text), "--out", str(out), *more]


def runs_of(line):
    return grid.runs_of(grid.read(line.split()), COMMANDS["ptb"])


def sweep_of(folder):
    return json.loads((folder / "sweep.json").read_text())


def sentences(capsys):
    """What stderr says of issref."""
    lines = capsys.readouterr().err.splitlines()
    return [line.partition("issref: ")[2] for line in lines if "issref: " in line]


# ---------------------------------------------------------------- lists


@settings(max_examples=6)  # the training command reads each run's settings: a slow reader
@given(st.sets(st.integers(0, 99), min_size=1, max_size=3), st.sets(st.integers(1, 9), min_size=1, max_size=2))
def test_every_combination_is_one_run_with_a_name_of_its_own(seeds, batches):
    chosen = f"--corpus embedded --seed {' '.join(map(str, seeds))} --batch {' '.join(map(str, batches))}"
    runs = runs_of(chosen)
    assert {(run.settings.run.seed, run.settings.schedule.batch) for run in runs} == {
        (s, b) for s in seeds for b in batches
    }
    assert len({run.name for run in runs}) == len(runs) == len(seeds) * len(batches)
    for run in runs:
        assert run.settings.changed(PRESETS["small-embedded"]) <= {"seed", "batch"}
        assert ("seed=" in run.name, "batch=" in run.name) == (len(seeds) > 1, len(batches) > 1)


def test_commas_part_the_numbers_of_one_value():
    runs = runs_of("--preset zaremba-small --hidden-sizes 30,20 --strength 3e-4,4e-4 1e-3 --no-shrink")
    assert [run.settings.penalty.strength for run in runs] == [(3e-4, 4e-4), (1e-3,)]
    assert [run.name for run in runs] == ["strength=3e-4,4e-4", "strength=1e-3"]
    assert {run.settings.network.hidden_sizes for run in runs} == {(30, 20)}
    assert not any(run.settings.penalty.shrink for run in runs)


def test_the_dense_method_has_one_run_whatever_the_strengths():
    runs = runs_of("--method dense prox l1 --strength 1e-3 2e-3 --l1-strength 1e-5 1e-4 --penalty-epochs 1 2")
    methods = [run.settings.penalty.method for run in runs]
    assert {method: methods.count(method) for method in methods} == {"dense": 1, "prox": 4, "l1": 4}
    assert runs[0].name == "method=dense"


def test_a_sweep_of_one_run_is_one():
    (run,) = runs_of("--small --seed 3")
    assert run.name == "run"
    assert run.settings.run.seed == 3


def test_auto_spaces_strengths_around_the_median_group_and_adds_a_dense_run(text):
    acting = "--epochs 6 --penalty-epochs 4 --final-penalty-scale 0.25"
    runs = runs_of(f"{SIZES} --corpus {text} --strength auto:5 --learning-rate 0.7 {acting}")
    assert [run.settings.penalty.method for run in runs] == ["dense"] + 5 * ["prox"]
    corpus = train_ptb.load_corpus(runs[0].settings)
    config = ptb_lstm.Config(len(corpus.words), 12, (12, 10), init_scale=0.3)
    layout = ptb_lstm.layout(config)
    params = ptb_lstm.init_params(config, layout, np.random.default_rng(0), np.float32)
    norms = group_norms(params, iss_groups(layout, ptb_lstm.spaces(layout.axes)))
    steps = 60  # of 3900 words in 4 rows by 16
    unit = np.median(norms) / (steps * 0.7 * (4 + 0.25 * (0.5 + 0.5**2)))
    found = np.array([run.settings.penalty.strength[0] for run in runs[1:]])
    np.testing.assert_allclose(found, unit * np.geomspace(1, 30, 5), rtol=1e-2)


def test_a_path_goes_up_from_the_dense_run_one_for_each_seed():
    runs = runs_of("--method prox dense --strength 3e-3 1e-3,2e-3 1e-3 --seed 0 1")
    for chain in grid.chains(runs, path=True):
        assert len({run.settings.run.seed for run in chain}) == 1
        assert chain[0].settings.penalty.method == "dense"
        assert [run.settings.penalty.strength for run in chain[1:]] == [(1e-3,), (1e-3, 2e-3), (3e-3,)]
        assert [run.after for run in chain] == [None, *(run.name for run in chain[:-1])]
    assert grid.chains(runs, path=False) == [[run] for run in runs]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("--stength 1", "--stength: expected a setting of the training command, got an unknown one"),
        (
            "--resume runs/a",
            "--resume: expected a setting of the training command, got an unknown one",
        ),
        ("--threads 1 2", "--threads: expected one value for the whole sweep, got 1 2"),
        ("--jobs 1 2", "--jobs: expected one value for the whole sweep, got 1 2"),
        ("--epochs 1 0", "--epochs: expected a number greater than or equal to 1, got 0"),
        ("--jobs 0", "--jobs: expected a number from 1 up and no --cluster, got 0"),
        ("--seed --dtype float64", "--seed: expected at least one value, got none"),
        ("--seed 1 --seed 2", "--seed: expected all values after one flag, got the flag twice"),
        ("--no-shrink yes", "--no-shrink: expected no value, got yes"),
        ("--seed 1 1", "--seed: expected different values (commas separate the numbers of one value), got 1 1"),
        ("--seed 1 01", "sweep: expected different runs, got seed=1 and seed=01 with the same settings"),
        (
            "--method dense --strength 1 2",
            "--strength: expected --method prox or released for a list, got --method",
        ),
        (
            "--method l1 --strength auto:3",
            "--strength: expected --method prox or released for a list, got --method l1",
        ),
        ("--strength auto:1", "--strength: expected a number from 2 up after auto:, as in auto:8, got auto:1"),
        ("--strength auto", "--strength: expected a number from 2 up after auto:, as in auto:8, got auto"),
        ("--strength 1,2,3 1", "--strength: expected one number or one for each of 2 layers, got 3"),
        (
            "--path --strength 0.1",
            "--path: expected two or more runs of one method that differ in strength, got 1 of",
        ),
        ("--cluster tcp://127.0.0.1:1", "--cluster: expected"),  # Dask scheduler there, or Dask itself
    ],
)
def test_bad_input_is_a_sentence_and_exit_code_2(more, said, text, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "PATIENCE", 0.2)
    assert command.main(flags(text, tmp_path / "out", *more.split())) == 2
    (found,) = sentences(capsys)
    assert found.startswith(said)
    assert not (tmp_path / "out").exists()


def test_values_need_a_flag_and_a_corpus_that_is_there(tmp_path, capsys):
    assert command.main(["1e-3", "--seed", "0"]) == 2
    assert command.main(["--corpus", "nowhere", "--out", str(tmp_path / "out")]) == 2
    first, second = sentences(capsys)
    assert first == "sweep: expected a flag before its values, got '1e-3'"
    assert second.startswith("corpus: expected auto, ptb, embedded or a folder")


def test_help_names_the_options(capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(["--help"])
    assert ended.value.code == 0
    assert {"--out", "--jobs", "--cluster", "--path"} <= set(capsys.readouterr().out.split())


# ---------------------------------------------------------------- a sweep


LISTS = ["--method", "dense", "prox", "--strength", "0.009,0.011", "0.004", "5", "--epochs", "2"]
NAMES = ["method=dense", *(f"method=prox_strength={one}" for one in ("0.009,0.011", "0.004", "5"))]


@pytest.fixture(scope="module")
def finished(text, tmp_path_factory):
    """The folder of a sweep of which one run fails, and its exit code."""
    out = tmp_path_factory.mktemp("sweeps") / "whole"
    return out, command.main(flags(text, out, *LISTS))


def test_a_run_that_fails_is_reported_and_the_others_finish(finished):
    out, code = finished
    rows = sweep_of(out)["runs"]
    assert code == 1
    assert [row["name"] for row in rows] == NAMES
    assert [row["state"] for row in rows] == 3 * ["finished"] + ["failed"]
    assert rows[-1]["reason"].endswith("have died, which a new run with a lower --strength prevents")
    assert [row["result"] is None for row in rows] == [False, False, False, True]
    assert "failed: epoch 1" in (out / "sweep.md").read_text()


def test_each_run_is_the_same_run_of_the_training_command(finished, text, tmp_path):
    out, _ = finished
    row = sweep_of(out)["runs"][1]
    arguments = [*row["arguments"], "--out", str(tmp_path / "run"), "--threads", "1"]
    subprocess.run([sys.executable, "-m", "quick_ptb", *arguments], check=True, capture_output=True)
    result = json.loads((out / row["name"] / "result.json").read_text())
    assert result["settings"]["penalty"]["strength"] == row["settings"]["strength"] == [0.009, 0.011]
    assert {**sweep_of(out)["settings"], **row["settings"]} == {**flattened(result["settings"]), "threads": None}
    for name in ("components", "parameters", "valid_perplexity", "test_perplexity"):
        assert row["result"][name] == result[name]
    same_model(out / row["name"], tmp_path / "run")


def same_model(one, other):
    first, second = (checkpoint.load(run / "model.safetensors")[0] for run in (one, other))
    assert first.keys() == second.keys()
    for array, values in first.items():
        np.testing.assert_array_equal(values, second[array], strict=True)


def same_sweep(one, other):
    """The runs of one are in the other, with the same models and figures; only their times differ."""
    first, second = ({row["name"]: row for row in sweep_of(folder)["runs"]} for folder in (one, other))
    for name in first:
        same_model(one / name, other / name)
        for key in ("parameters", "components", *sweep_of(one)["scores"]):
            assert first[name]["result"][key] == second[name]["result"][key]


def test_what_is_finished_is_kept_and_more_can_be_added(finished, text, tmp_path, monkeypatch):
    out, asked = shutil.copytree(finished[0], tmp_path / "sweep"), []
    monkeypatch.setattr(process, "train", lambda module, place, *_: asked.append(place.name))
    assert command.main(flags(text, out, *LISTS)) == 1
    assert asked == NAMES[-1:]
    asked.clear()
    assert command.main(flags(text, out, *LISTS[:7], "0.005", *LISTS[7:])) == 1
    assert sorted(asked) == sorted([NAMES[-1], "method=prox_strength=0.005"])  # both at once
    assert sweep_of(out)["runs"][-1]["state"] == "waiting"


def test_the_folder_of_another_sweep_is_refused(finished, text, tmp_path, capsys):
    out, _ = finished
    before = (out / "sweep.json").read_bytes()
    for more in (["--epochs", "2"], [*LISTS, "--clip", "1"], [*LISTS, "--path"]):
        assert command.main(flags(text, out, *more)) == 2
    assert all(line.startswith(f"--out: expected the runs of the sweep in {out}") for line in sentences(capsys))
    assert (out / "sweep.json").read_bytes() == before
    (tmp_path / "thesis.tex").write_text("mine")
    assert command.main(flags(text, tmp_path)) == 2
    (tmp_path / "sweep.json").write_text("[]")
    assert command.main(flags(text, tmp_path)) == 2
    (tmp_path / "sweep.json").write_text("[" * 100_000)
    assert command.main(flags(text, tmp_path)) == 2
    other, *damaged = sentences(capsys)
    assert other.startswith(f"--out: expected an empty folder or one of this sweep, got other files in {tmp_path}")
    assert len(damaged) == 2
    assert all("expected a sweep written by issref, got" in said for said in damaged)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("result.json", "{", "expected JSON, got "),
        ("result.json", "{}", ", components: expected a value, got none"),
        ("metrics.jsonl", '{"epoch": 3}', "expected a value, got none"),
    ],
)
def test_a_damaged_run_is_named_and_stops_no_other(
    name, content, said, finished, text, tmp_path, monkeypatch, capsys
):
    out = shutil.copytree(finished[0], tmp_path / "sweep")
    monkeypatch.setattr(process, "train", lambda *_: None)
    (out / NAMES[1] / name).write_text(content)
    assert command.main(flags(text, out, *LISTS)) == 1
    (damaged, _) = sentences(capsys)
    assert damaged.startswith(f"{NAMES[1]}: {out / NAMES[1] / name}")
    assert said in damaged
    assert [row["result"] is None for row in sweep_of(out)["runs"]] == [False, True, False, True]
    assert (out / NAMES[1] / name).read_text() == content
    assert damaged in (out / "sweep.md").read_text().replace(" | ", ": ").replace("failed: ", "")


def test_two_sweeps_do_not_share_a_folder(finished, text, tmp_path, capsys):
    out = shutil.copytree(finished[0], tmp_path / "sweep")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with run_lock(out):
        assert command.main(flags(text, out, *LISTS)) == 2
    assert sentences(capsys) == [f"{out}: expected one process at a time, got a folder locked by another"]
    assert {path: path.read_bytes() for path in before} == before


def test_the_log_of_a_run_follows_no_link(tmp_path):
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log.txt").symlink_to(tmp_path / "victim")
    with pytest.raises(ValueError, match=r"log.txt: expected a regular file, got a link"):
        process.train("quick_ptb", tmp_path / "run", [], 1)
    assert (tmp_path / "victim").read_text() == "mine"


def test_the_figure_shows_what_the_table_says(finished):
    out, _ = finished
    sweep = sweep_of(out)
    (axes,) = frontier.frontier_figure(sweep).axes
    results = {row["name"]: row["result"] for row in sweep["runs"] if row["result"]}
    expected = {
        (result["parameters"]["compact"], result["valid_perplexity"]["compact"]) for result in results.values()
    }
    drawn = {line.get_label(): set(map(tuple, line.get_xydata())) for line in axes.lines}
    assert drawn["dense"] | drawn["prox"] == expected
    assert len(drawn["dense"]) == 1
    assert {label.get_text() for label in axes.texts} == {"0.004", "0.009 0.011"}
    table = (out / "sweep.md").read_text()
    for result in results.values():
        assert f"{result['parameters']['compact']:,}" in table
        assert f"{result['test_perplexity']['compact']:.2f}" in table
    assert (out / "sweep.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


# ---------------------------------------------------------------- paths


@pytest.fixture(scope="module")
def path(text, tmp_path_factory):
    """The folder of a warm-started path; in its second run components die."""
    out = tmp_path_factory.mktemp("sweeps") / "path"
    assert command.main(flags(text, out, "--epochs", "2", "--strength", "0.1", "0.009", "--path")) == 0
    return out


def test_a_path_starts_each_strength_from_the_last_ones_model(path):
    rows = sweep_of(path)["runs"]
    assert [row["name"] for row in rows] == ["strength=0.009", "strength=0.1"]
    assert [row["state"] for row in rows] == ["finished"] * 2
    living = []
    for row in rows:
        place = path / row["name"]
        config = json.loads((place / "config.json").read_text())
        assert config["run"]["init"] == (str(path / row["after"]) if row["after"] else None)
        living.append(checkpoint.load(place / "model.safetensors")[1]["alive"])
    for before, after in pairwise(living):  # what has died stays dead
        assert all(
            was or not now for space in before for was, now in zip(before[space], after[space], strict=True)
        )
    assert sum(living[-1]["lstm0"] + living[-1]["lstm1"]) < sum(living[0]["lstm0"] + living[0]["lstm1"])


def test_a_failure_fails_what_would_start_from_it(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "train", lambda module, place, *_: fail(place))
    chain = grid.chains(runs_of("--strength 1 2 3"), path=True)[0]

    def fail(place):
        place.mkdir()
        (place / process.FAILED).write_text("no memory")

    process.train_chain("quick_ptb", tmp_path, chain, 1)
    said = [(tmp_path / run.name / process.FAILED).read_text() for run in chain]
    needed = [f"--init: expected the model of strength={one}, got a failed run" for one in (1, 2)]
    assert said == ["no memory", *needed]


def test_a_run_killed_between_its_first_checkpoint_and_its_settings_begins_again(text, tmp_path):
    place, usual = tmp_path / "run", [word for one in SIZES.split() for word in one.split(",")]
    arguments = [*usual, "--corpus", str(text), "--epochs", "1"]
    process.train("quick_ptb", place, arguments, 1)
    assert not (place / process.FAILED).exists()
    whole = checkpoint.load(place / "model.safetensors")[0]
    for path in place.iterdir():
        if path.name != LAST:
            path.unlink()
    process.train("quick_ptb", place, arguments, 1)
    assert not (place / process.FAILED).exists()
    for array, values in checkpoint.load(place / "model.safetensors")[0].items():
        np.testing.assert_array_equal(values, whole[array])


def test_init_takes_the_weights_of_a_run_at_its_original_widths(path):
    *_, last = sweep_of(path)["runs"]
    run, given = path / last["name"], train_ptb.parse(last["arguments"]).settings
    corpus = train_ptb.load_corpus(given)
    layout = ptb_lstm.layout(model_config(given, corpus))
    full = load_initial_params(run, layout, corpus, "float64")
    layout.check(full)
    small, about = checkpoint.load(run / "model.safetensors")
    living = {space: np.array(kept) for space, kept in about["alive"].items()}
    assert not all(kept.all() for kept in living.values())
    for array, values in compact(full, layout, living)[0].items():
        np.testing.assert_array_equal(values, small[array])
    assert sum(map(np.count_nonzero, full.values())) == sum(map(np.count_nonzero, small.values()))


@pytest.mark.parametrize("change", ["widths", "words", "model", "nothing there"])
def test_init_refuses_the_models_of_others(change, finished, text, tmp_path, capsys):
    run, more, corpus = finished[0] / NAMES[0], [], tmp_path / "text"
    corpus.mkdir()
    for name in ("train", "valid", "test"):
        content = (text / f"{name}.txt").read_text()
        (corpus / f"{name}.txt").write_text(content.replace("w3", "v3") if change == "words" else content)
    if change == "widths":
        more = ["--hidden-sizes", "12", "11"]
    if change == "model":
        more = ["--model", "rhn", "--hidden-sizes", "12"]
    if change == "nothing there":
        run = tmp_path / "nowhere"
    usual = [word for one in SIZES.split() for word in one.split(",")]
    out = ["--corpus", str(corpus), "--out", str(tmp_path / "out"), "--init", str(run)]
    assert train_ptb.main([*usual, *out, *more]) == 2
    (said,) = sentences(capsys)
    assert "expected" in said
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------- stopped, killed


QUICK = """
import sys
from dataclasses import replace
import quick_{name}
from issref.sweep.command import COMMANDS, main
COMMANDS["{name}"] = replace(COMMANDS["{name}"], command=quick_{name})
sys.exit(main())
"""
SWEEP = [sys.executable, "-c", QUICK.format(name="ptb")]
SLOW = ["--epochs", "2", "--threads", "1", "--seed", "0", "1"]
LOCAL = [*SLOW, "2"]


@pytest.fixture(scope="module")
def local(text, tmp_path_factory):
    """The folder of a whole sweep on this machine."""
    out = tmp_path_factory.mktemp("sweeps") / "local"
    assert command.main(flags(text, out, *LOCAL)) == 0
    return out


def begun(out, count):
    """Wait until so many runs are in the middle."""
    for _ in range(2400):
        folders = [
            path for path in out.glob("*/checkpoint.safetensors") if not (path.parent / "result.json").exists()
        ]
        if len(folders) >= count:
            return folders
        time.sleep(0.05)
    raise TimeoutError(f"{out}: no {count} runs have begun")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_sweep_that_was_stopped_goes_on_where_it_was(number, local, text, tmp_path, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setenv("PAUSE", "0.03")
    with subprocess.Popen(
        [*SWEEP, *flags(text, out, *SLOW)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as sweep:
        begun(out, 1)
        sweep.send_signal(number)
        _, errors = sweep.communicate(timeout=120)
    if number == signal.SIGINT:
        assert sweep.returncode == 130
        assert f"stopped; resume with the same command and --out {out}" in errors
        assert "stopped" in {row["state"] for row in sweep_of(out)["runs"]}
    monkeypatch.setenv("PAUSE", "0")
    assert command.main(flags(text, out, *SLOW)) == 0
    same_sweep(out, local)


@pytest.mark.skipif(find_spec("distributed") is None, reason="needs Dask: pip install 'issref[cluster]'")
def test_a_cluster_that_loses_a_worker_ends_with_the_same_numbers(local, text, tmp_path, monkeypatch):
    monkeypatch.setenv("PAUSE", "0.01")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    alone = ["--no-dashboard", "--local-directory", str(tmp_path)]
    programs = [["scheduler", "--port", address.rpartition(":")[2], "--no-dashboard"]]
    programs += 2 * [["worker", address, "--no-nanny", "--nthreads", "1", *alone]]
    started = [
        subprocess.Popen([sys.executable, "-m", "dask", *program], stderr=subprocess.DEVNULL, cwd=tmp_path)
        for program in programs
    ]
    try:
        out = tmp_path / "out"
        sweep = subprocess.Popen([*SWEEP, *flags(text, out, *LOCAL, "--cluster", address)])
        begun(out, 2)
        started[1].kill()
        assert sweep.wait(timeout=240) == 0
    finally:
        for one in started:
            one.kill()
            one.wait()
    logs = [path.read_text().count("machine  ") for path in out.glob("*/log.txt")]
    assert sorted(logs) == [1, 1, 2]  # the run on the worker that died went on, on the other
    same_sweep(out, local)
