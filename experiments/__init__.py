"""One absl entry point an experiment: python -m experiments.NAME --help."""
