"""The networks: plain functions over a flat dictionary of arrays, whose widths are those of the arrays."""

from issref.models import ptb_lstm, ptb_rhn
from issref.models.protocol import LanguageModel

LANGUAGE_MODELS: dict[str, LanguageModel] = {ptb_lstm.NAME: ptb_lstm, ptb_rhn.NAME: ptb_rhn}
