"""Training runs, whatever the network: updates, pruning, state, recorder, checkpoints, settings, commands."""
