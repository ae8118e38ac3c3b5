# pyright: reportMissingImports=false
"""Train an LSTM language model with ISS in PyTorch, to look for the settings of a long run on a GPU.

    python -m benchmarks.twin --preset iss-large --strength 0.0033 --penalty-epochs 5 --out RUN

It takes the flags of `train_ptb --method prox` or dense, and trains in the same way: first weights, windows, clip,
descent, schedule, evaluation. Four things differ: the proximal step is approximate (`shrink_groups`); dead units
are cut at the end of an epoch; on a GPU the products of the layers are in bfloat16; dropout has PyTorch's random
numbers. RUN gets config.json, metrics.jsonl with a row for each epoch, and the compact model, which `--init` can
read.
"""

import math
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm

from issref import train_ptb
from issref.data.corpus import Corpus, Windows, windows
from issref.iss.compact import Alive, compact, expand
from issref.iss.groups import alive, iss_groups
from issref.iss.layout import Layout, Params
from issref.models import ptb_lstm
from issref.models.ptb_lstm import spaces, zero_state
from issref.ptb.evaluation import load_corpus, model_config
from issref.ptb.settings import Settings
from issref.training import command as shell
from issref.training.checkpoint import write_json
from issref.training.models import save_model
from issref.training.options import flag, strengths
from issref.training.pruning import check_any_alive
from issref.training.runs import folder_for
from issref.verify.formats import torch as dialect

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PRODUCTS = torch.bfloat16 if DEVICE == "cuda" else None  # else in the dtype of the weights
HAS = {"model": ("lstm",), "method": ("prox", "dense"), "schedule": ("decay", "staircase"), "weight_decay": (0,)}
WARM_UP = 3  # steps before one is captured
Tensors = dict[str, torch.Tensor]


def to_torch(params: Params) -> Tensors:
    """Return the weights on the device, the layers' as PyTorch has them, but with one bias."""
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
    """Return the norm of each unit's group: gate columns, recurrent row, and `readers` (., H), what reads it."""
    below, recurrent = weights[f"weight_ih_l{layer}"], weights[f"weight_hh_l{layer}"]
    units = recurrent.shape[1]
    columns = (below.square().sum(1) + recurrent.square().sum(1)).reshape(4, units).sum(0)
    own = recurrent.reshape(4, units, units).diagonal(dim1=1, dim2=2).square().sum(0)  # in both, counted once
    return (columns + recurrent.square().sum(0) - own + readers.square().sum(0)).sqrt()


@torch.no_grad()
def shrink_groups(weights: Tensors, thresholds: torch.Tensor, living: list[torch.Tensor]) -> None:
    """Scale the weights, in place, by max(0, 1 - threshold / |w_g|) for each of their groups g.

    This is the exact proximal step up to terms in the square of the threshold (`issref.iss.prox`). A unit that is
    not `living` stays zero, biases included; a unit that dies is taken out of `living`.
    """
    layers = range(len(living))
    readers = [*(weights[f"weight_ih_l{layer}"] for layer in layers[1:]), weights["softmax/kernel"].T]
    factors = []
    for layer, threshold, mask in zip(layers, thresholds, living, strict=True):
        norms = group_norms(weights, layer, readers[layer])
        mask.logical_and_(norms > threshold)
        factors.append(torch.where(mask, 1 - threshold / norms, torch.zeros_like(norms)))
    for layer, factor, mask in zip(layers, factors, living, strict=True):
        recurrent = weights[f"weight_hh_l{layer}"]
        own = recurrent.reshape(4, len(factor), -1).diagonal(dim1=1, dim2=2)
        once = own * factor
        recurrent.mul_(factor.repeat(4)[:, None]).mul_(factor)
        own.copy_(once)
        weights[f"weight_ih_l{layer}"].mul_(factor.repeat(4)[:, None])
        weights[f"bias_ih_l{layer}"].mul_(mask.repeat(4))
        readers[layer].mul_(factor)


class Epoch:
    """The steps of an epoch. All that changes between steps is in tensors, so a CUDA graph can repeat a step."""

    def __init__(self, settings: Settings, params: Params, texts: Windows, thresholds, generator: torch.Generator):
        self.schedule, self.keep, self.generator = settings.schedule, settings.network.keep, generator
        self.weights = {name: values.requires_grad_() for name, values in to_torch(params).items()}
        zeros = zero_state(params, self.schedule.batch)  # h and c of each layer
        self.state = [torch.tensor(part, device=DEVICE)[None] for part in zeros.values()]
        self.living = [torch.ones(part.shape[-1], dtype=torch.bool, device=DEVICE) for part in self.state[::2]]
        self.thresholds = torch.tensor(thresholds, device=DEVICE) if any(thresholds) else None
        self.texts = torch.tensor(np.array(texts), dtype=torch.int64, device=DEVICE)
        self.number = torch.zeros(1, dtype=torch.int64, device=DEVICE)
        self.total = torch.zeros((), dtype=torch.float64, device=DEVICE)

    def loss(self, tokens, targets, state, keep: float, products=None):
        """Compute the cross-entropy in nats, the sum over the steps and the mean over the batch, and the state."""
        x, after = self.dropout(functional.embedding(tokens, self.weights["embed/kernel"]), keep), []
        products, dtype = products or x.dtype, x.dtype
        for layer in range(len(state) // 2):
            names = [f"{name}_l{layer}" for name in ("weight_ih", "weight_hh", "bias_ih")]
            kernels = [self.weights[name].to(products) for name in names]
            before = [part.to(products) for part in state[2 * layer : 2 * layer + 2]]
            kernels.append(torch.zeros_like(kernels[-1]))
            x, *last = torch.lstm(x.to(products), before, kernels, True, 1, 0.0, True, False, False)
            x, after = self.dropout(x.to(dtype), keep), [*after, *last]
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
        loss, after = self.loss(tokens, targets, self.state, self.keep, PRODUCTS)
        grads = torch.autograd.grad(loss, [*self.weights.values()])
        with torch.no_grad():
            norm = torch.stack([gradient.square().sum() for gradient in grads]).sum().sqrt()
            scale = rate * (self.schedule.clip / norm).clamp(max=1)
            for values, gradient in zip(self.weights.values(), grads, strict=True):
                values -= scale * gradient
            if self.thresholds is not None:
                shrink_groups(self.weights, self.thresholds, self.living)
            for part, last in zip(self.state, after, strict=True):
                part.copy_(last)
            self.total += loss
            self.number += 1

    def train(self, rate: float) -> float:
        """Take all steps of the epoch, and return the mean loss of a word."""
        step, count = partial(self.step, rate), len(self.texts)
        for _ in range(min(WARM_UP, count)):
            step()
        if DEVICE == "cuda":
            step = captured(step, self.generator)
        for _ in range(WARM_UP, count):
            step()
        return self.total.item() / (count * self.schedule.steps)

    @torch.no_grad()
    def perplexity(self, text: np.ndarray) -> float:
        """Return the perplexity of a text, in rows and windows as `issref.ptb.evaluation.perplexity` reads it."""
        schedule, total, state = self.schedule, 0.0, [torch.zeros_like(part) for part in self.state]
        texts = windows(text, schedule.batch, schedule.steps)
        for tokens, targets in torch.tensor(np.array(texts), dtype=torch.int64, device=DEVICE):
            loss, state = self.loss(tokens, targets, state, 1.0)
            total += loss.item()
        return math.exp(min(total / (len(texts) * schedule.steps), 700.0))


def captured(step, generator: torch.Generator):
    """Capture a step as a CUDA graph, without taking it, and return a function that takes it."""
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def train(settings: Settings, params: Params, layout: Layout, corpus: Corpus, folder: Path) -> Params:
    """Train to the end of the schedule, write a row for each epoch, and return the params, dead units as zeros."""
    schedule, rows = settings.schedule, []
    texts, groups = windows(corpus.train, schedule.batch, schedule.steps), iss_groups(layout, spaces(layout.axes))
    each = strengths(settings.penalty.strength, [*groups.first]).values()
    generator = torch.Generator(DEVICE).manual_seed(settings.run.seed)
    for number in (bar := tqdm(range(schedule.epochs), unit=" epochs", disable=None)):
        masks, rate = alive(params, groups), schedule.rate(number)
        check_any_alive(masks)
        scale = rate * settings.penalty.scale(number) * (settings.penalty.method == "prox")
        small, smaller = compact(params, layout, masks)
        epoch = Epoch(settings, small, texts, [scale * one for one in each], generator)
        loss = epoch.train(rate)
        params, _ = expand(to_params(epoch.weights), smaller, masks)
        row = {"epoch": number + 1, "learning_rate": rate, "train_perplexity": math.exp(min(loss, 700.0))}
        row |= {"valid_perplexity": epoch.perplexity(corpus.valid), "alive": counts(alive(params, groups))}
        write_json(folder / "metrics.jsonl", rows := [*rows, row])
        bar.set_postfix(row["alive"], valid=row["valid_perplexity"])
    return params


def counts(masks: Alive) -> dict[str, int]:
    """Return the number of units alive in each layer."""
    return {space: int(mask.sum()) for space, mask in masks.items()}


def execute(command: train_ptb.Command) -> None:
    """Train with the command's settings, and save the compact model in its folder."""
    corpus = load_corpus(command.settings)
    settings = shell.with_full_paths(command.settings.replaced(corpus=corpus.choice), "data_dir", "init")
    check(settings)
    with ExitStack() as stack:
        folder = folder_for(command.out, command.preset or train_ptb.quick_preset(command))
        run, layout = shell.start_run(settings, ptb_lstm, model_config(settings, corpus), corpus, folder, stack)
        write_json(folder / "config.json", settings.to_dict())
        params = train(settings, run.params, layout, corpus, folder)
        about = {"config": settings.to_dict(), "corpus": corpus.sha256, "words": corpus.words}
        save_model(ptb_lstm, params, layout, folder, **about)


def check(settings: Settings) -> None:
    """Raise ValueError for settings that this program does not have."""
    wanted = {
        "model": ("lstm",),
        "method": ("prox", "dense"),
        "schedule": ("decay", "staircase"),
        "weight_decay": (0,),
    }
    for name, values in wanted.items():
        if (found := settings.flat()[name]) not in values:
            raise ValueError(f"{flag(name)}: expected {' or '.join(map(str, values))}, got {found}")


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code, as that of `train_ptb`."""
    return shell.run_command(partial(train_ptb.parse, arguments), execute)


if __name__ == "__main__":
    sys.exit(main())
