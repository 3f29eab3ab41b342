"""Analyses that combine noise, networks and maps: units, interventions, backdoors, ensembles, robustness."""
