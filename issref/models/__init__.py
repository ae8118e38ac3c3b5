"""The networks: plain functions over a flat dictionary of arrays; the shapes of the arrays give the widths."""

from issref.models import ptb_gru, ptb_lstm, ptb_rhn
from issref.models.protocol import LanguageModel

LANGUAGE_MODELS: dict[str, LanguageModel] = {model.NAME: model for model in (ptb_lstm, ptb_rhn, ptb_gru)}
