"""The experiments: each is a choice of settings, and a `run` from settings to results."""
