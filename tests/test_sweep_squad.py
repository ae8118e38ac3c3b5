"""A sweep of the reader: its lists, strengths and scores; what no command changes is tested in test_sweep."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import quick_squad
import test_train_squad as single
from test_sweep import QUICK, begun, same_model, sentences, sweep_of

from issref import report, train_squad
from issref.iss.groups import group_norms, iss_groups
from issref.models import bidaf
from issref.sweep import command, frontier, grid
from issref.sweep.task import COMMANDS
from issref.training.options import flattened

HERE = Path(__file__).parent
SIZES = (
    "--hidden-size 5 --filters 4 --char-size 2 --batch 8 --steps 22 --penalty-steps 20 "
    "--learning-rate 0.036 --final-rate 0.1 --average 0.8 --dev-sample 10 --keep 0.9"
)
FILES = ("train.json", "dev.json", "glove.txt")
SIX = "6.5,6.8,5.6,5,6.3,6.5"
LISTS = ["--method", "dense", "prox", "--strength", SIX, "5"]
NAMES = ["method=dense", f"method=prox_strength={SIX}", "method=prox_strength=5"]

data = single.data  # the folder with questions and vectors


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Runs of `quick_squad`, here and in every process that is started."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(COMMANDS, "squad", replace(COMMANDS["squad"], command=quick_squad))
        patch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)
        yield


def files(data):
    return ["--word-size", "5", *(word for name in FILES for word in (f"--{Path(name).stem}", str(data / name)))]


def sweep(data, out, *more):
    return ["--command", "squad", *SIZES.split(), *files(data), "--threads", "1", "--out", str(out), *more]


def runs_of(line):
    return grid.runs_of(grid.read(line.split()), COMMANDS["squad"])


# ---------------------------------------------------------------- lists


def test_lists_become_runs_and_the_dense_method_reads_none_of_the_penaltys():
    runs = runs_of("--method dense prox released --strength 6,6,3,4,6,6 2 --penalty-steps 100 300 --seed 0 1")
    methods = [run.settings.penalty.method for run in runs]
    assert {method: methods.count(method) for method in methods} == {"dense": 2, "prox": 8, "released": 8}
    assert {run.settings.penalty.strength for run in runs[2:]} == {(6, 6, 3, 4, 6, 6), (2,)}
    assert runs[0].name == "method=dense_seed=0"
    runs = runs_of("--method prox released --threshold 1e-4 1e-3 --no-shrink --small")
    assert [run.settings.penalty.threshold for run in runs if run.settings.penalty.method == "released"] == [
        1e-4,
        1e-3,
    ]
    assert [run.settings.penalty.method for run in runs].count("prox") == 1
    assert not any(run.settings.penalty.shrink for run in runs)


def test_files_and_folders_are_named_by_their_whole_path(data, monkeypatch):
    monkeypatch.chdir(data)
    (data / "run").mkdir()
    (run,) = runs_of("--train train.json --dev dev.json --glove glove.txt --data-dir . --init run")
    found = [run.settings.flat()[name] for name in ("train", "dev", "glove", "data_dir", "init")]
    assert found == [*(str(data / name) for name in FILES), str(data), str(data / "run")]


def test_auto_spaces_strengths_by_the_steps_in_which_the_penalty_acts(data):
    runs = runs_of(" ".join([SIZES, *files(data), "--strength auto:3"]))
    assert [run.settings.penalty.method for run in runs] == ["dense", "prox", "prox", "prox"]
    settings = runs[0].settings
    config = train_squad.model_config(settings, train_squad.load_corpus(settings))
    layout = bidaf.layout(config)
    params = bidaf.init_params(config, layout, np.random.default_rng(0), np.float32)
    norms = group_norms(params, iss_groups(layout, bidaf.spaces(layout.axes)))
    unit = np.median(norms) / sum(0.036 * (1 - 0.9 * step / 22) for step in range(20))
    found = np.array([run.settings.penalty.strength[0] for run in runs[1:]])
    np.testing.assert_allclose(found, unit * np.geomspace(0.5, 2, 3), rtol=1e-2)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("--stength 1", "--stength: expected a setting of the training command, got an unknown one"),
        ("--epochs 3", "--epochs: expected a setting of the training command, got an unknown one"),
        ("--articles 1 2", "--articles: expected one value for the whole sweep, got 1 2"),
        ("--dev-limit 7 8", "--dev-limit: expected one value for the whole sweep, got 7 8"),
        (
            "--method dense --penalty-steps 1 2",
            "--penalty-steps: expected --method prox or released for a list, got",
        ),
        ("--threshold 1e-4 1e-3", "--threshold: expected --method released for a list, got --method prox"),
        ("--strength 1,2 3", "--strength: expected one number or one for each of 6 layers, got 2"),
        (
            "--dev-limit 5",
            "--dev-limit: expected a dev question with a context of at most 5 words, got 6 words in",
        ),
        ("--path --seed 0 1", "--path: expected two or more runs of one method that differ in strength, got 1 of"),
    ],
)
def test_bad_input_is_a_sentence_and_exit_code_2(more, said, data, tmp_path, capsys):
    words = ["--command", "squad", *files(data), "--out", str(tmp_path / "out"), *more.split()]
    assert command.main(words) == 2
    (found,) = sentences(capsys)
    assert found.startswith(said)
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------- a sweep


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """The folder of a whole sweep."""
    out = tmp_path_factory.mktemp("sweeps") / "whole"
    assert command.main(sweep(data, out, *LISTS)) == 0
    return out


def test_each_run_is_the_same_run_of_the_training_command(finished, data, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "draw_run", lambda *_: [])
    assert [row["name"] for row in sweep_of(finished)["runs"]] == NAMES
    row = sweep_of(finished)["runs"][1]
    alone = [*SIZES.split(), *files(data), "--threads", "1", "--strength", *SIX.split(",")]
    assert train_squad.main([*alone, "--out", str(tmp_path / "run")]) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert row["epoch"] == 4  # 22 steps, 6 to an epoch
    assert {**sweep_of(finished)["settings"], **row["settings"]} == flattened(result["settings"])
    for name in ("components", "parameters", "dev_em", "dev_f1"):
        assert row["result"][name] == result[name]
    assert result["parameters"]["compact"] < result["parameters"]["full"]
    same_model(finished / row["name"], tmp_path / "run")


def test_the_table_and_the_figure_show_f1(finished):
    rows = sweep_of(finished)["runs"]
    head, _, *lines = (finished / "sweep.md").read_text().splitlines()
    assert [cell.strip() for cell in head.strip("|").split("|")][3:5] == ["dev F1", "dev EM"]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    told = {cell[0]: cell[3:5] for cell in cells}
    scores = {row["name"]: [row["result"][score]["compact"] for score in ("dev_f1", "dev_em")] for row in rows}
    assert told == {name: [f"{value:.2f}" for value in values] for name, values in scores.items()}
    (axes,) = frontier.frontier_figure(sweep_of(finished)).axes
    assert axes.get_title(loc="left") == "dev F1, higher is better"
    drawn = {line.get_label(): set(map(tuple, line.get_xydata())) for line in axes.lines}
    points = [(row["result"]["parameters"]["compact"], scores[row["name"]][0]) for row in rows]
    assert drawn["dense"] == {points[0]}
    assert drawn["prox"] == set(points[1:])
    assert 2 * [points[0][1]] in [list(line.get_ydata()) for line in axes.lines]
    assert {label.get_text() for label in axes.texts} == {"5", SIX.replace(",", " ")}
    assert (finished / "sweep.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_sweep_that_was_stopped_goes_on_where_it_was(finished, data, tmp_path, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setenv("PAUSE", "0.2")
    program = [sys.executable, "-c", QUICK.format(name="squad"), *sweep(data, out, *LISTS[:-1], "--jobs", "1")]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        begun(out, 1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert f"stopped; resume with the same command and --out {out}" in errors
    assert [row["state"] for row in sweep_of(out)["runs"]] == ["stopped", "waiting"]
    monkeypatch.setenv("PAUSE", "0")
    assert command.main(sweep(data, out, *LISTS[:-1])) == 0
    rows = {row["name"]: row["result"] for row in sweep_of(finished)["runs"]}
    for row, name in zip(sweep_of(out)["runs"], NAMES[:2], strict=True):
        same_model(out / row["name"], finished / name)
        assert row["result"]["dev_f1"] == rows[name]["dev_f1"]


def test_a_path_goes_up_from_the_dense_run_and_each_line_of_it_has_an_f1(data, tmp_path, capsys):
    out = tmp_path / "path"
    chosen = ["--path", "--method", "prox", "dense", "--strength", "6,5.5,5.5,5.5,5.5,5.5"]
    _, ((dense, least, most),), _ = command.parse(sweep(data, out, *chosen, "5.5"))
    assert [dense.after, least.after, most.after] == [None, dense.name, least.name]
    assert (least.settings.penalty.strength, most.settings.penalty.strength) == ((5.5,), (6, *5 * [5.5]))
    assert command.main(sweep(data, out, *chosen[:-1], "5.5")) == 0
    first, last = sweep_of(out)["runs"]
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    for row in (first, last):
        assert [row["name"], "finished", "4", "of", "4", f"{row['valid_f1']:.2f}"] in [line[:6] for line in shown]
    config = json.loads((out / last["name"] / "config.json").read_text())
    assert config["run"]["init"] == str(out / first["name"]) == str(out / "method=dense")
    assert last["result"]["parameters"]["compact"] < first["result"]["parameters"]["compact"]


def test_the_folder_of_a_sweep_of_another_command_is_refused(data, tmp_path, capsys):
    (tmp_path / "sweep.json").write_text('{"command": "issref.train_ptb", "settings": {}, "runs": []}')
    assert command.main(sweep(data, tmp_path)) == 2
    (said,) = sentences(capsys)
    assert said == f"--out: expected a sweep of issref.train_ptb, as in {tmp_path}, got one of quick_squad"
