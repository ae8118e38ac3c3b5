"""BiDAF on SQuAD: settings, evaluation, console output."""
