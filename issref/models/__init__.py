"""The networks: plain functions over a flat dictionary of arrays; the shapes of the arrays give the widths."""

from issref.models import ptb_gru, ptb_lstm, ptb_rhn
from issref.models.protocol import LanguageModel

LANGUAGE_MODELS: dict[str, LanguageModel] = {
    ptb_lstm.NAME: ptb_lstm,
    ptb_rhn.NAME: ptb_rhn,
    ptb_gru.NAME: ptb_gru,
}
