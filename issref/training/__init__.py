"""What every training run needs and no network does: optimiser, settings, checkpoints, run folders."""
