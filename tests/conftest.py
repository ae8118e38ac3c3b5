"""Profiles of hypothesis: the default ends in minutes; ISSREF_DEEP=1 searches longer."""

import os

from hypothesis import HealthCheck, settings

quiet = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
settings.register_profile("usual", max_examples=25, **quiet)
settings.register_profile("deep", max_examples=250, **quiet)
settings.load_profile("deep" if os.environ.get("ISSREF_DEEP") else "usual")
