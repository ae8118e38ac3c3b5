"""What training needs of a network: a module with these names, as `ptb_lstm` has them, satisfies the protocol."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np

from issref.iss.layout import Layout, Params


class Network(Protocol):
    """A network whose axes have names: its layout, the spaces that ISS shrinks, their readers, weights, masks."""

    NAME: str
    layout: Callable[..., Layout]  # of a config
    initial: Callable[..., Params]  # of config, layout, random generator, dtype
    draw_masks: Callable[..., Params]  # of config, sizes, random generator, shape of a batch

    def spaces(self, arrays: Iterable[str]) -> list[str]: ...
    def readers_of(self, layout: Layout) -> tuple[tuple[str, int], ...]: ...
    def multiply_adds(self, layout: Layout) -> int: ...
    def mask_layout(self, layout: Layout, masks: Params) -> Layout: ...


class LanguageModel(Network, Protocol):
    """A network that predicts the next word, with a state carried from window to window."""

    EMBEDDING: str  # the array that --method l1 does not penalize
    configure: Callable[..., Any]  # of the size of the vocabulary and a command's options
    describe: Callable[[Any], str]  # of a config
    logits: Callable[..., tuple[tuple[np.ndarray, Params], Callable[..., Any]]]
    loss: Callable[..., tuple[tuple[Any, Params], Callable[..., Any]]]

    def released_thresholded(self, arrays: Iterable[str]) -> list[str]: ...
    def state_layout(self, layout: Layout, batch: int) -> Layout: ...
    def zero_state(self, params: Params, batch: int) -> Params: ...
