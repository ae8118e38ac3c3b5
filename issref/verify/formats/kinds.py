"""The recurrent layers that frameworks have: how each is recognised in a file, and whether issref reads it."""

import re
from collections.abc import Iterable
from typing import NamedTuple

_WEIGHT = r"(?:weight|bias)_[ih]h(?:_l\d+(?:_reverse)?)?"


class Kind(NamedTuple):
    """A kind of recurrent layer.

    `anywhere` is a regular expression for signs that identify it in any file: an array "gates/kernel", a number of
    H x H blocks "weight_hh of 3 blocks", a name of a cell "in gru_cell", or an ONNX operator "op GRU". `inside` is
    one for arrays that make it of an LSTM if they are below the LSTM's prefix. `remedy` makes a plain LSTM of it.
    """

    name: str
    anywhere: str = ""
    inside: str = ""
    reads: bool = False
    remedy: str = ""


# The first kind that has one of the signs counts.
KINDS = (
    Kind(
        "reparametrised LSTM",
        rf"parametrizations\.{_WEIGHT}\..*|{_WEIGHT}_(orig|mask|g|v|u|raw)",
        remedy="torch.nn.utils.parametrize.remove_parametrizations, prune.remove, remove_weight_norm or "
        "remove_spectral_norm makes it plain",
    ),
    Kind("LSTM with projections", r"weight_hr(_l\d+(_reverse)?)?", r"proj(ection)?[/.].*"),
    Kind("LSTM with peepholes", r"w_[ifo]_diag|weight_c[ifo]", r"[wp]c?[ifo]|w_?c[ifo]|peephole.*"),
    Kind(
        "layer-normalised LSTM",
        inside=r"(?!in )(.*[/._])?(ln|bn|\w*norm)[^/.]*([/.].*)?|(.*[/._])?(gamma|beta)",
    ),
    Kind("CuDNN LSTM", r"opaque_kernel|bias of 8 blocks"),
    Kind(
        "quantised LSTM",
        r"op (DynamicQuantizeLSTM|QLSTM)|_all_weight_values\..*",
        r"(weight|bias)\S*_(scale|zero_point)|.*_packed.*",
    ),
    Kind("convolutional LSTM", r"[ih]h/kernel"),
    Kind("LSTM with coupled gates", r"in (.*/)?coupled_input_forget_gate_lstm_cell\w*"),
    Kind(
        "GRU",
        r"op GRU|\S+ of 3 blocks|(gates|candidate)/(kernel|weights)|[ih][rzn]/kernel|"
        r"in (.*/)?(\w*gru_\w*cell\w*|gru\d*)(/.*)?",
        reads=True,
    ),
    Kind("RNN", r"op RNN|\S+ of 1 block|in (.*/)?basic_rnn_cell\w*"),
    Kind("LSTM", r"op LSTM|\S+ of 4 blocks|i[ifgo]/kernel|in (.*/)?\w*lstm\w*", reads=True),
)


PARTS = 20  # of a name, from its end, that may begin a sign: all would take a square of its length


def recognise(signs: Iterable[str], *, inside: bool = False) -> tuple[Kind, str] | None:
    """Return the first kind in the table with one of these signs, and the sign; None if there is no such kind."""
    signs = list(signs)
    for kind in KINDS:
        patterns = [kind.anywhere, kind.inside] if inside else [kind.anywhere]
        for sign in signs:
            if any(pattern and re.fullmatch(pattern, sign, re.IGNORECASE) for pattern in patterns):
                return kind, sign
    return None


def of_names(names: Iterable[str]) -> tuple[Kind, str] | None:
    """Return the kind that a name of an array, or the end of one, identifies, and that end."""
    return recognise(name[start:] for name in names for start in _starts(name))


def _starts(name: str) -> list[int]:
    return [0, *(found.end() for found in re.finditer(r"[/.]", name))][-PARTS:]
