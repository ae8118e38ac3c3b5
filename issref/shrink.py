"""Components that have died in training: cut out of everything that carries them, or kept as zeros.

In exact arithmetic both leave the training's path as it is. Once a dead component's biases and carried state
are zero too, its candidate is tanh(0) = 0, so are its cell and its output, and nothing reads them: every
gradient into its slices is exactly zero, and no step, clip or proximal step can move them. In floating point
only the order of summation differs.
"""

import numpy as np
from jaxtyping import Integer

from issref.iss.compact import Alive, compact, expand, zero_dead
from issref.iss.layout import Layout, Params
from issref.models import LANGUAGE_MODELS, ptb_lstm, ptb_rhn
from issref.training.progress import Progress
from issref.training.run import Failed
from issref.training.settings import Settings


def remove_dead(
    settings: Settings, at: Progress, layout: Layout, living: Alive, tokens: Integer[np.ndarray, "T B"]
) -> Layout:
    """Cut all but the living out of params, carried state and warm start; the layout of what is left.

    The outputs over the window `tokens`, the next one, are compared before and after, and the largest difference
    is kept in at.cuts. With --no-shrink the dead are set to zero instead, biases and state too, and the layout
    stays. Raises Failed if a layer would be left without components.
    """
    if empty := [space for space, kept in living.items() if not kept.any()]:
        raise Failed(f"all components of {empty[0]} have died, which a lower --strength prevents")
    model = LANGUAGE_MODELS[settings.model]
    state_layout = model.state_layout(layout, settings.batch)
    if not settings.shrink:
        at.params, at.state = zero_dead(at.params, layout, living), zero_dead(at.state, state_layout, living)
        at.alive = dict(living)
        return layout
    (before, _), _ = model.logits(at.params, at.state, tokens=tokens)
    kept = np.concatenate([*living.values(), [True]])  # the last share is that of no group
    at.prox = {"warm_start": at.prox["warm_start"][np.ix_(kept, kept)]}
    at.state, _ = compact(at.state, state_layout, living)
    at.params, layout = compact(at.params, layout, living)
    (after, _), _ = model.logits(at.params, at.state, tokens=tokens)
    sizes = {space: int(alive.sum()) for space, alive in living.items()}
    at.cuts.append(
        {"step": at.step + 1, "alive": sizes, "max_output_difference": float(np.abs(after - before).max())}
    )
    at.alive = {space: _survivors(at.alive[space], living[space]) for space in living}
    return layout


def _survivors(alive: np.ndarray, living: np.ndarray) -> np.ndarray:
    """Of all components, those alive so far and still living; `living` has one entry for each alive so far."""
    result = alive.copy()
    result[alive] = living
    return result


def shrunk(settings: Settings, at: Progress, layout: Layout) -> Layout:
    """The layout of a run's params now, from that of the whole model."""
    return (
        layout.resized({space: int(kept.sum()) for space, kept in at.alive.items()}) if settings.shrink else layout
    )


def whole(settings: Settings, at: Progress, layout: Layout) -> Params:
    """A run's params at their original widths, zeros where components have died."""
    if not settings.shrink:
        return at.params
    return expand(at.params, shrunk(settings, at, layout), at.alive)[0]


def draw_masks(
    settings: Settings, config: ptb_lstm.Config | ptb_rhn.Config, at: Progress, layout: Layout
) -> Params:
    """Dropout masks, drawn at the original widths, so that the random stream is the same with --no-shrink."""
    model, original = LANGUAGE_MODELS[settings.model], {space: len(kept) for space, kept in at.alive.items()}
    whole = layout.resized(original)
    masks = model.draw_masks(config, whole.sizes, at.rng, settings.steps, settings.batch)
    return compact(masks, model.mask_layout(whole, masks), at.alive)[0] if settings.shrink else masks
