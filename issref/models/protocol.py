"""The protocol that training expects of a network: a module with these names, such as `ptb_lstm`."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np

from issref.iss.layout import Layout, Params


class Network(Protocol):
    """A network whose axes have names: its layout, the spaces that ISS shrinks, their readers, weights, masks."""

    @property
    def NAME(self) -> str:
        """The name by which commands choose it."""
        ...

    layout: Callable[..., Layout]  # of a config
    init_params: Callable[..., Params]  # of config, layout, random generator, dtype
    draw_masks: Callable[..., Params]  # of config, sizes, random generator, shape of a batch

    def spaces(self, arrays: Iterable[str]) -> list[str]:
        """Return the spaces whose size ISS learns."""
        ...

    def readers_of(self, layout: Layout) -> tuple[tuple[str, int], ...]:
        """Return the (array, axis) pairs that read a component: it may go when all of them are zero."""
        ...

    def multiply_adds(self, layout: Layout) -> int:
        """Return the multiply-adds for one token."""
        ...

    def mask_layout(self, layout: Layout, masks: Params) -> Layout:
        """Return the layout of dropout masks."""
        ...


class LanguageModel(Network, Protocol):
    """A network that predicts the next word, with a state carried from window to window."""

    @property
    def EMBEDDING(self) -> str:
        """The array that --method l1 does not penalize."""
        ...

    @property
    def GATES(self) -> tuple[str, ...]:
        """The names of the blocks of columns of a layer's kernel."""
        ...

    configure: Callable[..., Any]  # of the size of the vocabulary and a command's options
    describe: Callable[[Any], str]  # of a config
    logits: Callable[..., tuple[tuple[np.ndarray, Params], Callable[..., Any]]]
    loss: Callable[..., tuple[tuple[Any, Params], Callable[..., Any]]]

    def released_thresholded(self, arrays: Iterable[str]) -> list[str]:
        """Return the arrays whose small weights the released code zeroes."""
        ...

    def state_layout(self, layout: Layout, batch: int) -> Layout:
        """Return the layout of the carried state."""
        ...

    def zero_state(self, params: Params, batch: int) -> Params:
        """Return a zero state for params of any widths."""
        ...
