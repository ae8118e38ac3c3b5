# pyright: reportMissingImports=false
"""The same language model in PyTorch, eager: nn.Embedding, nn.LSTM, nn.Linear, with the weights of issref's."""

from collections.abc import Callable
from itertools import cycle

import numpy as np
import torch
from torch import nn

from benchmarks.steps import Task
from benchmarks.timing import THREADS
from issref.iss.layout import Params
from issref.verify.formats import torch as dialect


class LanguageModel(nn.Module):
    """embed -> LSTM layers -> softmax's logits, with dropout between all of them."""

    def __init__(self, params: Params, keep: float = 1.0):
        super().__init__()
        self.dropout = nn.Dropout(1 - keep)
        self.embed = nn.Embedding.from_pretrained(torch.tensor(params["embed/kernel"]), freeze=False)
        self.lstm = dialect.build(dialect.from_reference(params))  # one nn.LSTM, or one a width
        if isinstance(self.lstm, nn.LSTM):
            self.lstm.dropout = 1 - keep
        kernel, bias = (torch.tensor(params[f"softmax/{part}"]) for part in ("kernel", "bias"))
        self.softmax = nn.Linear(*kernel.shape)
        self.softmax.weight, self.softmax.bias = nn.Parameter(kernel.T.contiguous()), nn.Parameter(bias)

    def forward(self, tokens: torch.Tensor, state=None):
        """Logits (T, B, V) and the state, which only a single nn.LSTM takes and gives."""
        x = self.embed(tokens)
        if isinstance(self.lstm, nn.LSTM):
            x, state = self.lstm(self.dropout(x), state)
        else:
            for layer in self.lstm:
                x, _ = layer(self.dropout(x))
        return self.softmax(self.dropout(x)), state


def training_step(work: Task, threads: int = THREADS) -> Callable[[], float]:
    """One step of clipped stochastic gradient descent at a call; returns the loss, in issref's unit."""
    torch.set_num_threads(threads)
    settings, model = work.settings, LanguageModel(work.params, work.settings.network.keep).train()
    optimizer = torch.optim.SGD(model.parameters(), settings.schedule.learning_rate)
    turn, state = cycle(torch.tensor(np.array(work.windows), dtype=torch.int64)), None

    def step() -> float:
        nonlocal state
        tokens, targets = next(turn)
        optimizer.zero_grad(set_to_none=True)
        logits, state = model(tokens, state)
        total = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
        cost = total / settings.schedule.batch
        cost.backward()
        nn.utils.clip_grad_norm_(model.parameters(), settings.schedule.clip)
        optimizer.step()
        state = tuple(part.detach() for part in state)
        return cost.item()

    return step


def evaluation(params: Params, tokens: np.ndarray, threads: int = THREADS) -> Callable[[], np.ndarray]:
    """The logits of a window from a zero state, at a call."""
    torch.set_num_threads(threads)
    model, ids = LanguageModel(params).eval(), torch.tensor(tokens, dtype=torch.int64)

    def evaluate() -> np.ndarray:
        with torch.inference_mode():
            return model(ids)[0].numpy()

    return evaluate
