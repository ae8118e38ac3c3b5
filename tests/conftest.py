"""Handlers of signals, and profiles of hypothesis.

A shell starts a job in the background with some signals ignored, and a run leaves ignored signals ignored. The
tests send signals, so each signal gets its usual handler back.

The default profile ends in minutes and ISSREF_DEEP=1 takes ten times the examples, both the same ones each time,
so that a change is judged by itself; ISSREF_SEARCH=1 looks for new ones."""

import os
import signal

from hypothesis import HealthCheck, settings

quiet = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
settings.register_profile("usual", max_examples=25, derandomize=True, **quiet)
settings.register_profile("deep", max_examples=250, derandomize=True, **quiet)
settings.register_profile("search", max_examples=1000, **quiet)
profiles = {"search": "ISSREF_SEARCH", "deep": "ISSREF_DEEP"}
settings.load_profile(next((name for name, flag in profiles.items() if os.environ.get(flag)), "usual"))

signal.signal(signal.SIGINT, signal.default_int_handler)
for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
    if hasattr(signal, name):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
