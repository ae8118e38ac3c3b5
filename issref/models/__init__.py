"""The networks: plain functions over a flat dictionary of arrays, whose widths are those of the arrays."""

from issref.models import ptb_lstm, ptb_rhn

LANGUAGE_MODELS = {"lstm": ptb_lstm, "rhn": ptb_rhn}  # of one interface: a command takes either
