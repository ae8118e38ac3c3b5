"""Store what the runs of test_stored_runs.py compute: python tests/make_stored_runs.py [NAME ...]

With names, only these runs are stored anew: those whose meaning changed.

How far a value may be off is measured. Each run is repeated DRAWS times, disturbed at random at every step: each
weight by up to TERMS * EPS of itself, each entry of a gradient that is not zero by up to TERMS * EPS of the
largest one, which is more than rounding can do to them in any order of summation. What is allowed is FACTOR times
the largest change of a value, and at least TERMS * EPS of it; the amplification along the path is contained in
that. Counts must not change.
"""

import contextlib
import io
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from test_stored_runs import EPS, RUNS, STORED, TERMS, do_run, settled, values_of, write_data  # noqa: E402

from issref.models import bidaf, ptb_lstm, ptb_rhn  # noqa: E402

DRAWS, FACTOR = 3, 4
NOISE = TERMS * EPS


def disturb(patch, rng) -> None:
    """Let every training step of the models compute with errors of NOISE."""
    for model in (bidaf, ptb_lstm, ptb_rhn):
        patch.setattr(model, "loss", _disturbed(model.loss, rng))


def _disturbed(loss, rng):
    def noisy(params, *arguments, **keywords):
        if "masks" not in keywords:  # the validation text
            return loss(params, *arguments, **keywords)
        for values in params.values():
            values *= 1 + NOISE * rng.uniform(-1, 1, values.shape)
        result, backward = loss(params, *arguments, **keywords)

        def noisy_backward(cost):
            found = backward(cost)
            grads = found[0] if isinstance(found, tuple) else found
            largest = max(np.abs(gradient).max(initial=0) for gradient in grads.values())
            for gradient in grads.values():
                gradient += NOISE * largest * rng.uniform(-1, 1, gradient.shape) * (gradient != 0)
            return found

        return result, noisy_backward

    return noisy


def compute(seed: int | None, runs: Path, data: Path, names: list[str]) -> dict:
    """Counts and numbers of some runs; disturbed, unless `seed` is None."""
    found = {}
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(io.StringIO()):
        settled(patch)
        if seed is not None:
            disturb(patch, np.random.default_rng(seed))
        for name in names:
            with contextlib.redirect_stdout(io.StringIO()):
                do_run(name, data, runs)
            found[name] = values_of(runs / name)
    return found


def main(names: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        data, *runs = (Path(folder) / str(number) for number in range(DRAWS + 2))
        for each in (data, *runs):
            each.mkdir()
        write_data(data)
        seeds = (None, *range(DRAWS))
        chosen = names or list(RUNS)
        exact, *noisy = (compute(seed, each, data, chosen) for seed, each in zip(seeds, runs, strict=True))
    stored, failed = {}, 0
    for name, (counts, numbers) in exact.items():
        others = [each[name] for each in noisy]
        if any(other != counts for other, _ in others):
            print(f"{name}: needs settings whose counts stay under rounding, found {counts} and {others[0][0]}")
            failed += 1
            continue
        kept = {}
        for key, (value, scale) in numbers.items():
            change = max(abs(other[key][0] - value) for _, other in others)
            kept[key] = [value, float(f"{max(FACTOR * change, NOISE * scale, 1e-300):.3g}")]
        stored[name] = {"counts": counts, "numbers": kept}
        shares = {key: most / max(numbers[key][1], 1e-300) for key, (_, most) in kept.items()}
        worst = max(shares, key=shares.__getitem__)
        usual = max(share for key, share in shares.items() if key.startswith("epoch"))
        print(f"{name:22}allowed, relative: losses {usual:.1e}, at most {shares[worst]:.1e} ({worst})", end="  ")
        print([list(alive.values()) for alive in counts["alive"]])
    if not failed:
        stored = (json.loads(STORED.read_text()) if names else {}) | stored
        rows = ",\n".join(f"{json.dumps(name)}: {json.dumps(run)}" for name, run in stored.items())
        STORED.write_text(f"{{\n{rows}\n}}\n")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
