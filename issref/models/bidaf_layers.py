"""The layers of BiDAF: ops that take params from the flat dictionary by name, and return gradients by name."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Integer

from issref.iss.layout import Params
from issref.ops.attention import attention_flow, concatenate
from issref.ops.basic import dropout, embed, linear
from issref.ops.bidirectional import bidirectional
from issref.ops.features import character_convolution, highway

HIGHWAYS = ("highway0", "highway1")


class Text(NamedTuple):
    """A batch of texts; positions beyond a length are padding, whatever their ids are."""

    words: Integer[np.ndarray, "T B"]
    characters: Integer[np.ndarray, "T B W"]  # 0 after the last letter of a word
    lengths: Integer[np.ndarray, " B"]  # from 1 up


def features(params: Params, text: Text, vectors: np.ndarray, mask: np.ndarray | None):
    """Compute features (T, B, D) from letters and vector of each word, with highways; backward(dx) -> grads."""
    valid = np.arange(len(text.words))[:, None] < text.lengths
    characters = np.where(valid[..., None], text.characters, 0)
    vector, vector_back = _vectors_of(params["words/kernel"], np.where(valid, text.words, 0), vectors)
    letters, embed_back = embed(params["characters/kernel"], ids=characters)
    letters, drop_back = dropout(letters, mask=mask)
    spelling, spelling_back = character_convolution(
        letters, params["convolution/kernel"], params["convolution/bias"], lengths=(characters != 0).sum(axis=-1)
    )
    x, concatenate_back = concatenate(spelling, vector)
    backs = {}
    for name in HIGHWAYS:
        x, backs[name] = highway(x, params[f"{name}/kernel"], params[f"{name}/bias"])

    def backward(dx):
        grads = {}
        for name in reversed(HIGHWAYS):
            dx, grads[f"{name}/kernel"], grads[f"{name}/bias"] = backs[name](dx)
        dspelling, dvector = concatenate_back(dx)
        dletters, grads["convolution/kernel"], grads["convolution/bias"] = spelling_back(dspelling)
        grads["characters/kernel"], grads["words/kernel"] = embed_back(drop_back(dletters)), vector_back(dvector)
        return grads

    return x, backward


def _vectors_of(table, ids, vectors):
    """Return rows of the trainable table for ids below its length, rows of the fixed vectors for higher ids."""
    fixed = ids >= len(table)
    learned, embed_back = embed(table, ids=ids[~fixed])
    x = np.empty((*ids.shape, table.shape[1]), table.dtype)
    x[fixed], x[~fixed] = vectors[ids[fixed] - len(table)], learned
    return x, lambda dx: embed_back(dx[~fixed])


def bilstm(params: Params, name: str, x: np.ndarray, lengths: np.ndarray, masks: Params):
    """Run the LSTM of this name in both directions; backward(dy) -> dx, grads."""
    ways = (f"{name}.fw", f"{name}.bw")
    weights = [f"{way}/{part}" for way in ways for part in ("kernel", "bias")]
    forward_mask, backward_mask = (masks.get(way) for way in ways)
    y, back = bidirectional(
        x,
        *(params[array] for array in weights),
        lengths=lengths,
        forward_mask=forward_mask,
        backward_mask=backward_mask,
    )

    def backward(dy):
        dx, *dweights = back(dy)
        return dx, dict(zip(weights, dweights, strict=True))

    return y, backward


def attend(params: Params, h: np.ndarray, u: np.ndarray, lengths: np.ndarray, question_lengths: np.ndarray):
    """Combine the context h with the question u by attention: p0 (T, B, 4 D); backward(dp0) -> dh, du, grads."""
    weights = ("attention/kernel", "attention/bias")
    p0, back = attention_flow(
        h, u, *(params[array] for array in weights), lengths=lengths, question_lengths=question_lengths
    )

    def backward(dp0):
        dh, du, *dweights = back(dp0)
        return dh, du, dict(zip(weights, dweights, strict=True))

    return p0, backward


def span_logits(params: Params, name: str, parts: tuple[np.ndarray, ...], masks: Params):
    """Compute a logit for each word (T, B) from the concatenated parts; backward(dy) -> dparts, grads."""
    x, concatenate_back = concatenate(*parts)
    x, drop_back = dropout(x, mask=masks.get(name))
    y, linear_back = linear(x, params[f"{name}/kernel"], params[f"{name}/bias"])

    def backward(dy):
        dx, dkernel, dbias = linear_back(dy[..., None])
        return concatenate_back(drop_back(dx)), {f"{name}/kernel": dkernel, f"{name}/bias": dbias}

    return y[..., 0], backward
