# pyright: reportMissingImports=false
r"""Train an LSTM language model with ISS in PyTorch on a GPU, to try settings before a long run.

    python -m benchmarks.gpu --preset iss-large --init START --clip 5 --keep .5 --schedule decay --strength .0033 \
        --penalty-epochs 5 --final-penalty-scale .333 --out RUN

START is the folder of a finished run. The program takes the flags of `train_ptb` with `--method prox` or `dense`,
and trains in the same way: first weights, windows, clip, descent, schedule, evaluation after an epoch. The
differences: the proximal step is approximate (`shrink_groups`); dead units are cut at the end of an epoch; on a
GPU the layers compute in bfloat16, the softmax and the evaluation in float32; dropout has PyTorch's random
numbers; a run cannot be resumed. RUN gets config.json, a row of metrics.jsonl for each epoch, and the compact
model of the last one, which `--init` can read.
"""

import math
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

try:
    import torch
    from torch.nn import functional
except ModuleNotFoundError:
    sys.exit("benchmarks.gpu: expected PyTorch, got none: pip install torch")

from issref import train_ptb
from issref.data.corpus import Corpus, Windows, windows
from issref.iss.compact import compact, expand
from issref.iss.groups import alive, iss_groups
from issref.iss.layout import Layout, Params
from issref.models import ptb_lstm
from issref.models.ptb_lstm import spaces, zero_state
from issref.ptb.evaluation import load_corpus, model_config
from issref.ptb.settings import Settings
from issref.training import command as shell
from issref.training.checkpoint import write_json
from issref.training.models import save_model
from issref.training.options import flag
from issref.training.pruning import check_any_alive
from issref.training.runs import folder_for
from issref.verify.formats import torch as dialect

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PRODUCTS = torch.bfloat16 if DEVICE == "cuda" else torch.float32  # the dtype of the layers' products
SUPPORTED = {
    "model": ("lstm",),
    "method": ("prox", "dense"),
    "schedule": ("decay", "staircase"),
    "weight_decay": (0,),
    "selection": ("last",),
}
WARM_UP = 3  # steps before one is captured
Tensors = dict[str, torch.Tensor]


def to_torch(params: Params) -> Tensors:
    """Return the weights on the device, the layers in PyTorch's form with one bias instead of two."""
    layers = {name: array for name, array in dialect.from_reference(params).items() if "bias_hh" not in name}
    others = {name: array for name, array in params.items() if not name.startswith("lstm")}
    return {name: torch.tensor(array, device=DEVICE) for name, array in (layers | others).items()}


def to_params(weights: Tensors) -> Params:
    """Return issref's params of these weights."""
    arrays = {name: values.detach().cpu().numpy() for name, values in weights.items()}
    others = {name: arrays.pop(name) for name in [*arrays] if "/" in name}
    second = {name.replace("_ih", "_hh"): np.zeros_like(arrays[name]) for name in arrays if "bias" in name}
    return {**dialect.to_reference(arrays | second), **others}


def group_norms(weights: Tensors, layer: int, readers: torch.Tensor) -> torch.Tensor:
    """Return each unit's group norm: gate columns, recurrent row, and `readers` (., H), which read it."""
    inputs, recurrent = weights[f"weight_ih_l{layer}"], weights[f"weight_hh_l{layer}"]
    units = recurrent.shape[1]
    columns = (inputs.square().sum(1) + recurrent.square().sum(1)).reshape(4, units).sum(0)
    own = recurrent.reshape(4, units, units).diagonal(dim1=1, dim2=2).square().sum(0)  # in both, counted once
    return (columns + recurrent.square().sum(0) - own + readers.square().sum(0)).sqrt()


@torch.no_grad()
def shrink_groups(weights: Tensors, thresholds: torch.Tensor, masks: list[torch.Tensor]) -> None:
    """Scale the weights, in place, by max(0, 1 - threshold / |w_g|) for each of their groups g.

    For groups that are large against the threshold this is the exact proximal step (`issref.iss.prox`) up to the
    order of the threshold's square; a small one may die a few steps earlier or later. A unit that dies is taken
    out of the `masks`. It stays zero, biases included.
    """
    layers = range(len(masks))
    readers = [*(weights[f"weight_ih_l{layer}"] for layer in layers[1:]), weights["softmax/kernel"].T]
    factors = []
    for layer, threshold, mask in zip(layers, thresholds, masks, strict=True):
        norms = group_norms(weights, layer, readers[layer])
        mask.logical_and_(norms > threshold)
        factors.append(torch.where(mask, 1 - threshold / norms, torch.zeros_like(norms)))
    for layer, factor, mask in zip(layers, factors, masks, strict=True):
        recurrent = weights[f"weight_hh_l{layer}"]
        own = recurrent.reshape(4, len(factor), -1).diagonal(dim1=1, dim2=2)
        once = own * factor
        recurrent.mul_(factor.repeat(4)[:, None]).mul_(factor)
        own.copy_(once)
        weights[f"weight_ih_l{layer}"].mul_(factor.repeat(4)[:, None])
        weights[f"bias_ih_l{layer}"].mul_(mask.repeat(4))
        readers[layer].mul_(factor)


class Epoch:
    """The steps of an epoch. All that a step changes are tensors, changed in place: a CUDA graph can repeat it."""

    def __init__(self, settings: Settings, params: Params, texts: Windows, thresholds, generator: torch.Generator):
        self.schedule, self.keep, self.generator = settings.schedule, settings.network.keep, generator
        self.weights = {name: values.requires_grad_() for name, values in to_torch(params).items()}
        self.dtype = self.weights["softmax/bias"].dtype
        zeros = zero_state(params, self.schedule.batch)  # h and c of each layer
        self.state = [torch.tensor(part, device=DEVICE)[None] for part in zeros.values()]
        self.masks = [torch.ones(part.shape[-1], dtype=torch.bool, device=DEVICE) for part in self.state[::2]]
        self.thresholds = torch.tensor(thresholds, dtype=self.dtype, device=DEVICE)
        self.penalized = any(thresholds)
        self.texts = torch.tensor(np.array(texts), dtype=torch.int64, device=DEVICE)
        self.number = torch.zeros(1, dtype=torch.int64, device=DEVICE)
        self.total = torch.zeros((), dtype=torch.float64, device=DEVICE)

    def loss(self, tokens, targets, state, keep: float, products: torch.dtype):
        """Compute the cross-entropy in nats, the sum over the steps and the mean over the batch, and the state."""
        x, after = self.dropout(functional.embedding(tokens, self.weights["embed/kernel"]), keep), []
        for layer in range(len(state) // 2):
            names = [f"{name}_l{layer}" for name in ("weight_ih", "weight_hh", "bias_ih")]
            kernels = [self.weights[name].to(products) for name in names]
            before = [part.to(products) for part in state[2 * layer : 2 * layer + 2]]
            kernels.append(torch.zeros_like(kernels[-1]))
            x, *last = torch.lstm(x.to(products), before, kernels, True, 1, 0.0, True, False, False)
            x, after = self.dropout(x.to(self.dtype), keep), [*after, *last]
        logits = x.flatten(0, 1) @ self.weights["softmax/kernel"] + self.weights["softmax/bias"]
        return functional.cross_entropy(logits, targets.flatten(), reduction="sum") / tokens.shape[1], after

    def dropout(self, x: torch.Tensor, keep: float) -> torch.Tensor:
        """Apply inverted dropout."""
        if keep == 1:
            return x
        return x * (torch.rand(x.shape, device=DEVICE, generator=self.generator) < keep) / keep

    def step(self, rate: float) -> None:
        """Loss, backward, clip, descent, proximal step."""
        tokens, targets = self.texts.index_select(0, self.number)[0]
        products = PRODUCTS if self.dtype == torch.float32 else self.dtype
        loss, after = self.loss(tokens, targets, self.state, self.keep, products)
        grads = torch.autograd.grad(loss, [*self.weights.values()])
        with torch.no_grad():
            norm = torch.stack([gradient.square().sum() for gradient in grads]).sum().sqrt()
            scale = rate * (self.schedule.clip / norm).clamp(max=1)
            for values, gradient in zip(self.weights.values(), grads, strict=True):
                values -= scale * gradient
            if self.penalized:
                shrink_groups(self.weights, self.thresholds, self.masks)
            for part, last, mask in zip(
                self.state, after, [mask for mask in self.masks for _ in "hc"], strict=True
            ):
                part.copy_(last * mask)
            self.total += loss
            self.number += 1

    def train(self, rate: float) -> float:
        """Take all steps of the epoch, and return the mean loss of a word.

        Raises FloatingPointError if the loss or a weight is not finite.
        """
        step, count = partial(self.step, rate), len(self.texts)
        if DEVICE == "cuda" and count > WARM_UP:
            step = self.captured(step)
            count -= WARM_UP
        for _ in range(count):
            step()
        loss = self.total.item() / (len(self.texts) * self.schedule.steps)
        if not math.isfinite(loss) or not all(values.isfinite().all() for values in self.weights.values()):
            raise FloatingPointError(f"the mean loss of the epoch is {loss}, or a weight is not finite")
        return loss

    def captured(self, step):
        """Take some steps, then capture one as a CUDA graph, and return a function that takes it."""
        stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                step()
        graph.register_generator_state(self.generator)
        with torch.cuda.graph(graph, stream=stream):
            step()
        return graph.replay

    @torch.no_grad()
    def perplexity(self, text: np.ndarray) -> float:
        """Return the perplexity of a text, in the windows of `issref.ptb.evaluation.perplexity` with many rows."""
        schedule, total, state = self.schedule, 0.0, [torch.zeros_like(part) for part in self.state]
        texts = windows(text, schedule.batch, schedule.steps)
        for tokens, targets in torch.tensor(np.array(texts), dtype=torch.int64, device=DEVICE):
            loss, state = self.loss(tokens, targets, state, 1.0, self.dtype)
            total += loss.item()
        return math.exp(min(total / (len(texts) * schedule.steps), 700.0))


def train(settings: Settings, params: Params, layout: Layout, corpus: Corpus, folder: Path) -> None:
    """Train to the end of the schedule; after each epoch write a row, and the compact model."""
    schedule, rows = settings.schedule, []
    texts, groups = windows(corpus.train, schedule.batch, schedule.steps), iss_groups(layout, spaces(layout.axes))
    about = {"config": settings.to_dict(), "corpus": corpus.sha256, "words": corpus.words}
    generator, masks = torch.Generator(DEVICE).manual_seed(settings.run.seed), alive(params, groups)
    for number in (bar := tqdm(range(schedule.epochs), unit=" epochs", disable=None)):
        rate, penalty = schedule.rate(number), train_ptb.group_penalty(settings, ptb_lstm, layout, number)
        small, smaller = compact(params, layout, masks)
        thresholds = [rate * penalty.strengths[first] for first in groups.first.values()]
        epoch = Epoch(settings, small, texts, thresholds, generator)
        loss = epoch.train(rate)
        params, _ = expand(to_params(epoch.weights), smaller, masks)
        check_any_alive(masks := alive(params, groups))
        row = {"epoch": number + 1, "learning_rate": rate, "train_perplexity": math.exp(min(loss, 700.0))}
        row["valid_perplexity"] = epoch.perplexity(corpus.valid)
        row["alive"] = {space: int(mask.sum()) for space, mask in masks.items()}
        rows.append(row)
        write_json(folder / "metrics.jsonl", rows)
        save_model(ptb_lstm, params, layout, folder, **about)
        bar.set_postfix(row["alive"], valid=row["valid_perplexity"])


def execute(command: train_ptb.Command) -> None:
    """Train with the command's settings. Raises ValueError for settings that this program does not have."""
    if command.resume or command.eval:
        raise ValueError("--resume, --eval: expected a new run, which is all that this program has")
    for name, values in SUPPORTED.items():
        if (found := command.settings.flat()[name]) not in values:
            raise ValueError(f"{flag(name)}: expected {' or '.join(map(str, values))}, got {found}")
    corpus = load_corpus(command.settings)
    settings = shell.with_full_paths(command.settings.replaced(corpus=corpus.choice), "data_dir", "init")
    for text in (corpus.train, corpus.valid):
        windows(text, settings.schedule.batch, settings.schedule.steps)
    with ExitStack() as stack:
        folder = folder_for(command.out, command.preset or train_ptb.quick_preset(command))
        run, layout = shell.start_run(settings, ptb_lstm, model_config(settings, corpus), corpus, folder, stack)
        write_json(folder / "config.json", settings.to_dict())
        train(settings, run.params, layout, corpus, folder)


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code, as that of `train_ptb`."""
    return shell.run_command(partial(train_ptb.parse, arguments), execute)


if __name__ == "__main__":
    sys.exit(main())
