"""What happens to long runs: killed, out of disk, damaged, started twice, read-only. Nothing may be lost.

The last line says how many faults were injected, after how many the run ended with the numbers of an undisturbed
one, or was refused in a sentence where nothing could go on, and how many were lost.
"""

import errno
import io
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from strategies import unhooked

from issref import report
from issref import train_ptb as command
from issref.training import checkpoint
from issref.training.process import resident_mb
from issref.training.recorder import Recorder
from issref.training.runs import BEST, LAST, PREVIOUS, load_run, run_lock, save_run
from issref.training.state import RunState

KILLS = 20
SIZES = "--hidden-sizes 6 5 --batch 4 --steps 6 --init-scale 0.3 --keep 0.9 --threads 1 --strength 0.004"
TINY = ["--preset", "zaremba-small", *SIZES.split()]
SERVER = multiprocessing.get_context("forkserver")  # its children start in milliseconds
SERVER.set_forkserver_preload(["issref.train_ptb", "issref.kernels.jitted", "matplotlib.figure"])


@pytest.fixture(scope="module")
def tally(request):
    """Faults by kind and outcome, shown at the end."""
    counts = Counter()
    yield counts
    with request.config.pluginmanager.get_plugin("capturemanager").global_and_fixture_disabled():
        print()
        for kind in dict.fromkeys(kind for kind, _ in counts):
            injected, survived = counts[kind, "injected"], counts[kind, "survived"]
            print(f"faults, {kind}: {injected} injected, {survived} survived, {injected - survived} lost")


@contextmanager
def fault(tally, kind):
    """Count a fault, and that it was survived if all that is asserted here holds."""
    tally[kind, "injected"] += 1
    yield
    tally[kind, "survived"] += 1


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A folder with a text in which each word has two likely followers."""
    folder, rng = tmp_path_factory.mktemp("text"), random.Random(0)
    for name, lines in (("train", 24), ("valid", 6), ("test", 6)):
        sentences = []
        for _ in range(lines):
            words = [rng.randrange(20)]
            for _ in range(8):
                words.append((words[-1] * 7 + rng.choice((1, 1, 5))) % 20)
            sentences.append(" ".join(f"w{word}" for word in words) + "\n")
        (folder / f"{name}.txt").write_text("".join(sentences))
    return folder


def go_on(text, out, epochs):
    """What a user types: the command of a new run, or --resume once there is one."""
    if (out / "config.json").exists():
        return ["--resume", str(out)]
    return ["--corpus", str(text), "--out", str(out), "--epochs", str(epochs), *TINY]


def begun(arguments):
    """A process at work on it."""
    process = SERVER.Process(target=command.main, args=(arguments,))
    process.start()
    return process


@pytest.fixture(scope="module")
def undisturbed(text, tmp_path_factory):
    """The folders of whole runs, by their epochs."""
    folders = {}
    for epochs in (1, 2, 24):
        folders[epochs] = tmp_path_factory.mktemp("runs") / f"whole-{epochs}"
        process = begun(go_on(text, folders[epochs], epochs))
        process.join()
        assert (folders[epochs] / "result.json").exists()
    return folders


def same_numbers(out, other):
    """Weights, state, random stream and metrics are the same, bit for bit; only times and memory are not."""
    for name in ("model.safetensors", LAST):
        (first, about), (second, about_second) = checkpoint.load(out / name), checkpoint.load(other / name)
        assert first.keys() == second.keys()
        for array, values in first.items():
            np.testing.assert_array_equal(values, second[array], strict=True, err_msg=array)
        assert about.get("random") == about_second.get("random")
    first, second = (
        [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (out, other)
    )
    measured = {"seconds": 0, "resident_mb": 0}
    assert [{**row, **measured} for row in first] == [{**row, **measured} for row in second]


def all_whole(out):
    """Every file but those that say they are partial can be read to its end."""
    for path in out.iterdir() if out.exists() else ():
        match path.suffix:
            case ".safetensors":
                checkpoint.load(path)
            case ".json":
                json.loads(path.read_text())
            case ".jsonl":
                assert [json.loads(line) for line in path.read_text().splitlines()]
            case ".png":
                assert path.read_bytes().endswith(b"IEND\xaeB`\x82")
            case suffix:
                assert path.name == ".lock" or suffix == ".partial"


def sentence(capsys):
    """The one line on stderr that says why the command ended."""
    lines = [line for line in capsys.readouterr().err.splitlines() if "issref: " in line]
    assert len(lines) == 1
    return lines[0].split("issref: ")[1]


@pytest.fixture
def without_figures(monkeypatch):
    monkeypatch.setattr(report, "draw_run", lambda *arguments: [])


# ---------------------------------------------------------------- kill -9


def test_twenty_kills_at_random_moments_change_no_number(text, undisturbed, tmp_path, tally):
    """A run is killed, and gone on with, again and again; when one is through, the next begins."""
    seconds = json.loads((undisturbed[24] / "result.json").read_text())["seconds"]["train"]
    kills, runs, rng, open_faults, in_training = 0, 0, random.Random(), 0, 0
    while kills < KILLS or open_faults:
        process = begun(go_on(text, out := tmp_path / str(runs), 24))
        process.join(rng.uniform(0, 0.4 + seconds / 4) if kills < KILLS else None)
        if process.is_alive():
            process.kill()
            kills, open_faults = kills + 1, open_faults + 1
            tally["kill -9", "injected"] += 1
            in_training += (out / LAST).exists()
        process.join()
        all_whole(out)
        if process.exitcode == 0:
            same_numbers(out, undisturbed[24])
            assert not list(out.glob("*.partial"))
            tally["kill -9", "survived"] += open_faults
            runs, open_faults = runs + 1, 0
        else:
            assert process.exitcode == -9
    assert in_training >= KILLS / 2


def test_a_kill_between_the_two_renames_leaves_the_checkpoint_before(text, undisturbed, tmp_path, tally, capsys):
    out = tmp_path / "run"
    shutil.copytree(undisturbed[2], out)
    with fault(tally, "kill -9"):
        (out / LAST).replace(out / f"{LAST}.01234567.partial")
        assert command.main(["--resume", str(out)]) == 0
        said = f"{out / LAST}: expected a file written by issref, got none; using the one before, of epoch "
        assert said in capsys.readouterr().out
        same_numbers(out, undisturbed[2])
        assert not list(out.glob("*.partial"))


def test_a_failure_between_the_two_renames_names_the_way_back(undisturbed, tmp_path, capsys, without_figures):
    """The last renaming of the second checkpoint is refused."""
    out = tmp_path / "run"
    shutil.copytree(undisturbed[1], out)
    replace, renamed = Path.replace, []

    def refused(path, target):
        renamed.append(target.name)
        if renamed.count(LAST) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return replace(path, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", refused)
        assert command.main(["--resume", str(out), "--epochs", "2"]) == 1
    assert not (out / LAST).exists()
    assert sentence(capsys).endswith(f"; the last checkpoint is kept, resume with --resume {out}")
    assert command.main(["--resume", str(out), "--epochs", "2"]) == 0
    same_numbers(out, undisturbed[2])


# ---------------------------------------------------------------- a full disk


class Disk:
    """Grants `left` operations that need room, each file's first half too, and is full from then on."""

    def __init__(self, left, reason=errno.ENOSPC):
        self.left, self.reason = left, reason
        self.open, self.replace, self.sync = Path.open, Path.replace, os.fsync

    def ask(self):
        self.left -= 1
        if self.left < 0:
            raise OSError(self.reason, os.strerror(self.reason))

    def opened(self, path, mode="r", *arguments, **options):
        if mode != "xb":
            return self.open(path, mode, *arguments, **options)
        self.ask()
        disk = self

        class Written(io.FileIO):  # `path` is new
            def write(self, content):
                super().write(content[: len(content) // 2])
                disk.ask()
                return super().write(content[len(content) // 2 :])

        return Written(path, "xb")

    @contextmanager
    def used(self):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, "open", lambda path, *mode, **options: self.opened(path, *mode, **options))
            patch.setattr(Path, "replace", lambda path, target: (self.ask(), self.replace(path, target))[1])
            patch.setattr(os, "fsync", lambda file: (self.ask(), self.sync(file))[1])
            yield


def test_a_disk_that_is_full_from_any_write_on_loses_nothing(
    text, undisturbed, tmp_path, tally, capsys, without_figures
):
    """Every opening, writing, flushing and renaming of a run is refused in turn, with all that follow."""
    with unhooked():  # seventy runs, of which shapes are checked elsewhere
        granted, ended = 0, 1
        while ended:
            disk, out = Disk(granted), tmp_path / str(granted)
            with disk.used():
                ended = command.main(go_on(text, out, 1))
            if ended:
                with fault(tally, "disk full"):
                    assert ended == 1
                    assert "No space left on device" in sentence(capsys)
                    assert not list(out.glob("*.partial"))
                    all_whole(out)
                    assert command.main(go_on(text, out, 1)) == 0
                    same_numbers(out, undisturbed[1])
            granted += 1
    assert granted > 30


# ---------------------------------------------------------------- damaged checkpoints


def test_no_byte_of_a_checkpoint_can_change_unnoticed(tmp_path, tally):
    path, rng = tmp_path / LAST, np.random.default_rng(0)
    params = {"lstm0/kernel": rng.normal(size=(3, 4)), "lstm0/bias": rng.normal(size=4)}
    run, recorder = RunState(params, {}, rng, {"lstm0": np.array([True])}), Recorder(lambda *_: {}, "words", 1)
    save_run(path, run, recorder, corpus="abc")
    whole = path.read_bytes()
    for position, byte in enumerate(whole):
        with fault(tally, "byte flipped"):
            path.write_bytes(whole[:position] + bytes([byte ^ rng.integers(1, 256)]) + whole[position + 1 :])
            with pytest.raises(ValueError, match=r"checkpoint.safetensors: expected (a comp|the byte|format)"):
                load_run(path)


@pytest.mark.parametrize("where", [3, 0.02, 0.5, -1])
def test_a_damaged_checkpoint_is_named_and_the_one_before_takes_its_place(
    where, text, undisturbed, tmp_path, tally, capsys, without_figures
):
    out = tmp_path / "run"
    shutil.copytree(undisturbed[2], out)
    content = bytearray((out / LAST).read_bytes())
    content[int(where * len(content)) if isinstance(where, float) else where] ^= 64
    with fault(tally, "byte flipped"):
        (out / LAST).write_bytes(content)
        assert command.main(["--resume", str(out)]) == 0
        first = capsys.readouterr().out.splitlines()[0]
        assert first.startswith(f"{out / LAST}: expected ")
        assert first.endswith("; using the one before, of epoch 2, step 9")
        same_numbers(out, undisturbed[2])


def test_if_both_checkpoints_are_damaged_the_last_is_named(undisturbed, tmp_path, capsys):
    shutil.copytree(undisturbed[2], tmp_path / "run")
    for name in (LAST, PREVIOUS):
        (tmp_path / "run" / name).write_bytes(b"damaged")
    assert command.main(["--resume", str(tmp_path / "run")]) == 2
    assert sentence(capsys).startswith(f"{tmp_path / 'run' / LAST}: expected a complete safetensors file")


@pytest.mark.parametrize("cut", [0, 7, 1000, -1])
def test_a_damaged_model_is_refused_in_a_sentence(cut, undisturbed, tmp_path, tally, capsys):
    path = shutil.copytree(undisturbed[2], tmp_path / "run") / "model.safetensors"
    with fault(tally, "byte flipped"):
        path.write_bytes(path.read_bytes()[:cut])
        assert command.main(["--eval", str(tmp_path / "run")]) == 2
        assert sentence(capsys).startswith(f"{path}: expected a complete safetensors file")


# ---------------------------------------------------------------- resuming


def contents(folder):
    """The bytes of every file but the lock."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def state_of(out):
    """The state in a run's last checkpoint, what it measured, and what else the checkpoint says."""
    (run, about), recorder = load_run(out / LAST), Recorder(lambda *_: {}, "words", 1)
    recorder.restore(about.pop("measured"))
    return run, recorder, about


def refused_unchanged(arguments, out, capsys):
    """The reason why a command refuses to resume a run; no file of the run may change."""
    before = contents(out)
    assert command.main(["--resume", str(out), *arguments]) == 2
    assert contents(out) == before
    return sentence(capsys)


@pytest.mark.parametrize("epochs", [1, 2])
def test_fewer_epochs_than_the_run_has_begun_are_refused(epochs, text, undisturbed, tmp_path, tally, capsys):
    """A run of two epochs; and one that was interrupted in its third."""
    out = shutil.copytree(undisturbed[2], tmp_path / "run")
    begun = epochs + 1
    if begun == 3:
        run, recorder, about = state_of(out)
        run.step = 1
        save_run(out / LAST, run, recorder, **about)
    with fault(tally, "refused resume"):
        need = f"--epochs: expected at least the {begun} that the run has begun, got {epochs}"
        assert refused_unchanged(["--epochs", str(epochs)], out, capsys) == need


def test_a_refused_resume_leaves_a_damaged_checkpoint_and_the_one_before(
    text, undisturbed, tmp_path, tally, capsys
):
    out = shutil.copytree(undisturbed[2], tmp_path / "run")
    (out / LAST).write_bytes(b"damaged")
    (out / f"{LAST}.01234567.partial").write_bytes(b"left by a killed process")
    other = shutil.copytree(text, tmp_path / "text")
    (other / "test.txt").write_text("w1 w2\n")
    with fault(tally, "refused resume"):
        assert "--resume: expected the corpus with sha256 " in refused_unchanged(
            ["--corpus", str(other)], out, capsys
        )
    with fault(tally, "refused resume"):
        assert "other values for ['seed']" in refused_unchanged(["--seed", "1"], out, capsys)


def test_a_run_goes_on_with_its_text_in_another_place(text, undisturbed, tmp_path, monkeypatch, without_figures):
    out, moved = shutil.copytree(undisturbed[1], tmp_path / "run"), shutil.copytree(text, tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    assert command.main(["--resume", str(out), "--epochs", "2", "--corpus", "moved"]) == 0
    same_numbers(out, undisturbed[2])
    assert json.loads((out / "config.json").read_text())["data"]["corpus"] == str(moved)  # for the next --resume


def of_an_earlier_epoch(out):
    """The best weights of the run are of its first epoch; its second becomes the best by far."""
    run, recorder, about = state_of(out)
    recorder.rows[0]["valid_perplexity"], recorder.rows[1]["valid_perplexity"] = 20.0, 10.0
    save_run(out / LAST, run, recorder, **about)
    run.epoch, run.step = 0, 1
    save_run(out / BEST, run, recorder)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"damaged"), of_an_earlier_epoch])
def test_the_best_weights_are_checked_before_training_goes_on(
    damage, text, tmp_path, tally, capsys, without_figures
):
    out, best = tmp_path / "run", tmp_path / "run" / BEST
    assert command.main([*go_on(text, out, 2), "--selection", "best"]) == 0
    capsys.readouterr()
    damage(out if damage is of_an_earlier_epoch else best)
    with fault(tally, "best weights damaged"):
        said = refused_unchanged(["--epochs", "3"], out, capsys)
        assert said.startswith(f"{best}: expected ")
        assert said.endswith("; --selection last resumes the run without these weights")
        assert command.main(["--resume", str(out), "--epochs", "3", "--selection", "last"]) == 0


def test_ctrl_c_while_a_run_is_loaded_says_how_to_resume(text, undisturbed, tmp_path, monkeypatch, capsys):
    def interrupted(*arguments, **keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr("issref.data.corpus.load", interrupted)
    out = shutil.copytree(undisturbed[1], tmp_path / "run")
    assert command.main(["--resume", str(out)]) == 130
    assert sentence(capsys) == f"stopped; the last checkpoint is kept, resume with --resume {out}"
    for arguments in (go_on(text, tmp_path / "new", 1), ["--eval", str(out)]):
        assert command.main(arguments) == 130
        assert sentence(capsys) == "stopped"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_asked_to_stop_saves_its_step(number, text, undisturbed, tmp_path, tally):
    out = tmp_path / "run"
    process = begun(go_on(text, out, 24))
    while not (out / "metrics.jsonl").exists():
        time.sleep(0.01)
    with fault(tally, "asked to stop"):
        os.kill(process.pid, number)
        process.join()
        assert process.exitcode == 0
        assert not (out / "result.json").exists()
        again = begun(["--resume", str(out)])
        again.join()
        assert again.exitcode == 0
        same_numbers(out, undisturbed[24])


def without_streams(arguments):
    """A run whose output nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    for name, number in (("stdout", 1), ("stderr", 2)):
        os.dup2(writer, number)
        setattr(sys, name, os.fdopen(number, "w"))
    command.main(arguments)


def test_a_run_outlives_its_terminal(text, undisturbed, tmp_path, tally):
    out = tmp_path / "run"
    with fault(tally, "broken stream"):
        process = SERVER.Process(target=without_streams, args=(go_on(text, out, 2),))
        process.start()
        process.join()
        same_numbers(out, undisturbed[2])


def test_a_run_without_its_figures_is_not_finished(text, undisturbed, tmp_path, tally, monkeypatch):
    """result.json is the last file: whoever finds it finds the figures too."""
    out = tmp_path / "run"
    with fault(tally, "no figures"):
        with monkeypatch.context() as patch:
            patch.setattr(report, "draw_run", lambda *arguments: 1 / 0)
            assert command.main(go_on(text, out, 1)) == 1
        assert not (out / "result.json").exists()
        assert command.main(["--resume", str(out)]) == 0
        same_numbers(out, undisturbed[1])
        assert {"training.png", "weights.png", "norms.png", "result.json"} <= contents(out).keys()


# ---------------------------------------------------------------- two processes; folders that cannot be written


def test_a_second_process_is_refused_until_the_first_is_gone(text, undisturbed, tmp_path, tally, capsys):
    out = tmp_path / "run"
    first = begun(go_on(text, out, 24))
    while not (out / "config.json").exists():
        time.sleep(0.01)
    with fault(tally, "second process"):
        assert command.main(["--resume", str(out)]) == 2
        assert sentence(capsys) == f"{out}: expected one process at a time, got a folder locked by another"
    with fault(tally, "second process"):
        assert command.main(["--corpus", str(text), "--out", str(out), *TINY]) == 2
        assert "expected a folder without a run" in sentence(capsys)
    first.kill()
    first.join()
    with run_lock(out), pytest.raises(ValueError, match="expected one process at a time"), run_lock(out):
        pass
    again = begun(go_on(text, out, 24))
    again.join()
    assert again.exitcode == 0
    same_numbers(out, undisturbed[24])


def test_a_read_only_folder_is_refused_in_a_sentence_and_can_be_evaluated(text, undisturbed, tmp_path, tally):
    as_others = [] if os.geteuid() else ["setpriv", "--bounding-set=-dac_override"]  # root may write anywhere
    if as_others and not shutil.which(as_others[0]):
        pytest.skip("needs a user who is not root, or setpriv")
    out = shutil.copytree(undisturbed[2], tmp_path / "run")
    (out / ".lock").unlink(missing_ok=True)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    out.chmod(0o555)
    program = [*as_others, sys.executable, "-m", "issref.train_ptb"]
    for arguments, code in (
        (["--resume", str(out), "--epochs", "3"], 2),
        (go_on(text, out / "deeper", 2), 2),
        (["--eval", str(out)], 0),
    ):
        with fault(tally, "read-only folder"):
            done = subprocess.run([*program, *arguments], capture_output=True, text=True)
            assert done.returncode == code, done.stderr
            assert code == 0 or "expected a writable folder, got" in done.stderr.splitlines()[-1]
            assert code == 0 or len(done.stderr.splitlines()) == 1
            assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    out.chmod(0o755)


# ---------------------------------------------------------------- memory


def test_memory_is_measured_and_flat(undisturbed):
    rows = [json.loads(line) for line in (undisturbed[24] / "metrics.jsonl").read_text().splitlines()]
    used = [row["resident_mb"] for row in rows]
    assert all(50 < each < 2000 for each in used)
    assert used[-1] <= 1.02 * used[0] + 1


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's own count")
def test_resident_memory_is_the_systems_own_count():
    lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    assert resident_mb() == pytest.approx(int(lines["VmRSS"].split()[0]) / 1024, abs=4)
