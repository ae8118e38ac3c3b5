"""The language models on Penn TreeBank: settings, evaluation, console output."""
