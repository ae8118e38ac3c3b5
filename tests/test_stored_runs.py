"""Small training runs in float64 against stored values: what a run computes stays the same over the years.

`python tests/make_stored_runs.py` writes the values, and with each of them how far it may be off. The bound is
derived there: the runs are repeated with the gradients disturbed by the largest error that rounding can make in
them, so that the values hold for every BLAS, instruction set and order of summation.
"""

import contextlib
import json
import random
import subprocess
import sys
import traceback
import zlib
from pathlib import Path

import numpy as np
import pytest

from issref import kernels, report, train_ptb, train_squad
from issref.training import checkpoint

STORED = Path(__file__).parent / "data" / "stored_runs.json"
EPS = float(np.finfo(np.float64).eps)
# Additions behind one entry of a gradient: 32 words (LSTM, RHN) with sums of at most 128 terms, or 8 questions of
# at most 11 words (BiDAF) with sums of at most 46. TERMS * EPS bounds its rounding error, relative to the largest.
TERMS = 4096
# Rounds of the proximal operator at a time. It stops at a relative duality gap of 1e-12, which is an error of up
# to 1e-6 in the weights, and rounding can decide whether it takes one more round. After 30 rounds nothing but
# rounding is left of the error, and the first certificate suffices.
SWEEPS = 30
# Biases to which a softmax is invariant: their gradient is rounding alone, which Adam divides by its own size.
ARBITRARY = ("attention/bias", "start/bias", "end/bias")

LSTM = (
    "--preset zaremba-small --hidden-sizes 12 10 --batch 4 --steps 8 --epochs 3 --init-scale 0.5 --flat-epochs 2 "
    "--strength 0.06 0.08 --learning-rate 0.4 --clip 2 --threads 1 --dtype float64"
)
RHN = (
    "--preset rhn-small --hidden-sizes 24 --depth 2 --batch 4 --steps 8 --epochs 3 --init-scale 0.3 "
    "--transform-bias 0 --strength 0.15 --learning-rate 0.4 --threads 1 --dtype float64 --selection last"
)
BIDAF = (
    "--hidden-size 5 --filters 4 --char-size 2 --word-size 5 --batch 8 --steps 22 --penalty-steps 18 "
    "--learning-rate 0.036 --final-rate 0.1 --average 0.8 --strength 7.4 7.4 4.2 4.2 7.4 7.4 --threads 1 "
    "--dev-sample 10 --keep 0.9 --dtype float64"
)
DROPOUT = "--drops 0.1 0.1 0.1 0.1 --weight-decay 1e-4"
RUNS = {  # the command lines of each run, one after another: the second resumes
    "lstm-prox": (LSTM,),
    "lstm-prox-no-shrink": (f"{LSTM} --no-shrink",),
    "lstm-released": (f"{LSTM} --method released --threshold 0.005 --strength 0.004 0.006",),
    "lstm-l1": (f"{LSTM} --method l1 --l1-strength 4e-4 --threshold 0.005",),
    "lstm-dense": (f"{LSTM} --method dense --clip 1 --schedule staircase",),
    "lstm-then-a-quarter": (f"{LSTM} --penalty-epochs 2 --final-penalty-scale 0.25",),
    "lstm-then-dense": (f"{LSTM} --penalty-epochs 2",),
    "lstm-dropout-decay": (f"{LSTM} --keep 0.7 --weight-decay 1e-4 --seed 1",),
    "lstm-resumed": (f"{LSTM} --keep 0.9 --epochs 2", "--epochs 3"),
    "lstm-init": (f"{LSTM} --method dense --epochs 1 --init {{runs}}/lstm-prox",),
    "lstm-three-layers": (
        f"{LSTM} --hidden-sizes 9 8 7 --embed-size 6 --strength 0.03 0.02 0.055 --init-scale 0.7",
    ),
    "rhn-prox": (f"{RHN} {DROPOUT} --clip 4",),
    "rhn-prox-no-shrink": (f"{RHN} {DROPOUT} --no-shrink --no-tied",),
    "rhn-released": (f"{RHN} --method released --threshold 0.02 --strength 0.03",),
    "rhn-best": (f"{RHN} --selection best --strength 0.3 --epochs 2 --init {{runs}}/rhn-released",),
    "bidaf-prox": (BIDAF,),
    "bidaf-prox-no-shrink": (f"{BIDAF} --no-shrink --clip 0.3",),
    "bidaf-released": (f"{BIDAF} --method released --strength 0.1 --threshold 0.005",),
    "bidaf-dense": (f"{BIDAF} --method dense",),
}


# ---------------------------------------------------------------- the runs


def write_data(folder):
    """The text, the questions and the vectors that the runs read, the same bytes each time."""
    rng = random.Random(0)
    for name, lines in (("train", 160), ("valid", 30), ("test", 10)):
        sentences = []
        for _ in range(lines):
            word, words = rng.randrange(15), []
            for _ in range(12):
                words.append(f"w{word}")
                word = (word * 7 + rng.choice((1, 1, 1, 5))) % 15
            sentences.append(" ".join(words) + "\n")
        (folder / f"{name}.txt").write_text("".join(sentences))
    words = [f"{first}{second}" for first in ("ba", "ke", "li", "mo", "su") for second in ("n", "rt", "ss", "d")]
    for name, count in (("train", 44), ("dev", 20)):
        (folder / f"{name}.json").write_text(json.dumps(questions(rng, words, count)))
    lines = [
        f"{word} {' '.join(f'{rng.gauss(0, 1):.3f}' for _ in range(5))}" for word in [*words[1:], "what", "?"]
    ]
    (folder / "glove.txt").write_text("\n".join(lines) + "\n")


def questions(rng, vocabulary, count):
    """Texts of different words, and which word follows a given one."""
    paragraphs = []
    for number in range(count):
        words = rng.sample(vocabulary, rng.randrange(6, 12))
        place = rng.randrange(len(words) - 1)
        answer = {"text": words[place + 1], "answer_start": len(" ".join(words[: place + 1])) + 1}
        asked = {"id": str(number), "question": f"what follows {words[place]}?", "answers": [answer]}
        paragraphs.append({"context": " ".join(words), "qas": [asked]})
    return {"data": [{"title": "pairs", "paragraphs": paragraphs}], "version": "1.1"}


def do_run(name, data, runs):
    """The commands of a run, in runs/name."""
    files = ["--corpus", str(data)]
    command = train_ptb
    if name.startswith("bidaf"):
        command = train_squad
        files = ["--train", f"{data}/train.json", "--dev", f"{data}/dev.json", "--glove", f"{data}/glove.txt"]
    first, *others = RUNS[name]
    assert command.main([*files, "--out", str(runs / name), *first.format(runs=runs).split()]) == 0, name
    for more in others:
        assert command.main(["--resume", str(runs / name), *more.split()]) == 0, name


def settled(patch):
    """Let the proximal operator sweep SWEEPS times before it looks at the gap, and leave the figures out."""
    block_pass = kernels.dual_block_pass
    patch.setattr(kernels, "dual_block_pass", lambda *arguments: [block_pass(*arguments) for _ in range(SWEEPS)])
    patch.setattr(report, "draw_run", lambda *arguments: [])


def values_of(run):
    """What a run has computed: the counts, which are exact, and numbers by name, each as (value, its scale)."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    counts, numbers = {"alive": [row["alive"] for row in rows]}, {}
    for row in rows:
        for name in ("train_perplexity", "valid_perplexity", "train_loss"):
            if name in row:
                numbers[f"epoch {row['epoch']} {name}"] = row[name], abs(row[name])
    counts["scores"] = [[row["valid_em"], row["valid_f1"]] for row in rows if "valid_em" in row]
    arrays, _ = checkpoint.load(run / "model.safetensors")
    counts["shapes"] = {array: list(values.shape) for array, values in sorted(arrays.items())}
    for array, values in sorted(arrays.items()):
        if array in ARBITRARY:
            continue
        norm = float(np.linalg.norm(values))
        direction = np.random.default_rng(zlib.crc32(array.encode())).uniform(-1, 1, values.size)
        projection = float(direction @ values.ravel() / max(np.linalg.norm(direction), 1e-300))
        numbers[f"{array} norm"], numbers[f"{array} projection"] = (norm, norm), (projection, norm)
    return counts, numbers


def main(folder):
    """Do all runs in this folder, and print what each has computed, or that it failed, as JSON."""
    data, runs, found = folder / "data", folder / "runs", {}
    for each in (data, runs):
        each.mkdir()
    write_data(data)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(sys.stderr):
        settled(patch)
        for name in RUNS:
            try:
                do_run(name, data, runs)
                found[name] = values_of(runs / name)
            except Exception:  # of whatever kind: the other runs go on
                found[name] = None
                traceback.print_exc()
    print(json.dumps(found))


# ---------------------------------------------------------------- the test


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    """What all runs compute, in a process of its own: the checks of shapes in this one take much longer."""
    command = [sys.executable, __file__, str(tmp_path_factory.mktemp("stored"))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.fixture(scope="module")
def stored():
    return json.loads(STORED.read_text())


@pytest.mark.parametrize("name", RUNS)
def test_a_run_computes_what_it_always_did(name, computed, stored, record_property):
    found, said = computed
    assert found[name], f"{name}: needed a run that ends, found\n{said[-3000:]}"
    counts, numbers = found[name]
    assert counts == stored[name]["counts"]
    assert numbers.keys() == stored[name]["numbers"].keys()
    used = {key: abs(numbers[key][0] - value) / most for key, (value, most) in stored[name]["numbers"].items()}
    record_property("largest share of what is allowed", max(used.values()))
    off = {key: share for key, share in used.items() if not share <= 1}
    assert not off, f"{name}: needed the stored values, found some off by so many times what is allowed: {off}"


def test_what_is_allowed_is_little(stored):
    """At most 1e-9 of a loss and 1e-7 of an array's norm, which Adam amplifies more."""
    for name, run in stored.items():
        for key, (value, most) in run["numbers"].items():
            scale = run["numbers"].get(key.replace("projection", "norm"), [value])[0]
            share = 1e-9 if key.startswith("epoch") else 1e-7
            assert most <= max(share * abs(scale), 1e-300), (name, key)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
