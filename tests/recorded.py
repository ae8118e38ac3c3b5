"""A run's folder with a history, as training writes it, without training: units fade until they are removed."""

import json

import numpy as np

from issref import compact
from issref.models import ptb_lstm as model
from issref.training import history
from issref.training.checkpoint import write_json
from issref.training.state import RunState


def fading(sizes=(20, 20), words=300, steps=40, epochs=3, seed=1, share=0.6):
    """The lines of history.jsonl and of metrics.jsonl, the params after the last step, their layout, alive masks.

    A unit with number k of a random order is removed at step k of an even schedule; before, its weights shrink.
    """
    rng, config = np.random.default_rng(seed), model.Config(words, sizes[0], sizes)
    layout, total = model.layout(config), steps * epochs
    params = model.init_params(config, layout, rng, np.float32)
    ends = {}
    for number, size in enumerate(sizes):
        order = rng.permutation(size)
        ends[f"lstm{number}"] = np.where(order < share * size, (order + 1) * 0.9 * total / (share * size), np.inf)
    lines, rows, row = [], [], None
    for done in range(1, total + 1):
        epoch, step = divmod(done - 1, steps)
        alive = {space: done < end for space, end in ends.items()}
        counts = {space: int(mask.sum()) for space, mask in alive.items()}
        row = row if step else {"epoch": epoch + 1, "trace": [], "cuts": []}
        perplexity = 80 + 300 * np.exp(-3 * (epoch + (step + 1) / steps))
        row["trace"].append({"step": step + 1, "train_perplexity": perplexity, "alive": counts})
        if lines and counts != lines[-1]["alive"]:
            row["cuts"].append({"step": step + 1, "alive": counts, "max_output_difference": 0.0})
        if history.is_recorded(epoch, step + 1, steps, epochs):
            small, left = compact(faded(params, layout, ends, done), layout, alive)
            run = RunState(small, {}, rng, alive, epoch=epoch, step=step)
            lines = lines or [history.first_line(run, left) | {"alive": counts}]
            lines.append(history.frame(run, left, steps) | {"alive": counts})
        if step + 1 == steps:
            row |= {"valid_perplexity": 100 + 50 / (epoch + 1), "seconds": 10.0 * (epoch + 1)}
            rows.append(row | {"train_perplexity": perplexity, "alive": counts})
    return lines, rows, small, left, alive


def faded(params, layout, ends, done):
    """Params whose units have shrunk by their age."""
    found = {array: values.copy() for array, values in params.items()}
    for space, end in ends.items():
        factor = np.maximum(1 - 0.9 * done / end, 0.05).astype(np.float32)
        for array, axis, segment in layout.occurrences(space):
            place = [slice(None)] * found[array].ndim
            place[axis] = slice(segment.start, segment.stop)
            found[array][tuple(place)] *= factor[:, None] if axis == 0 and found[array].ndim == 2 else factor
    return found


def write_recorded(folder, **how):
    """Write history.jsonl, metrics.jsonl and model.safetensors; return the lines of the history."""
    from issref.training import checkpoint

    lines, rows, small, left, alive = fading(**how)
    write_json(folder / history.FILE, lines)
    write_json(folder / "metrics.jsonl", rows)
    kept = {space: mask.tolist() for space, mask in alive.items()}
    checkpoint.save(folder / "model.safetensors", small, layout=json.loads(left.to_json()), alive=kept)
    return lines
