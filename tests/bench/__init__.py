"""Measurements, started by `scripts/bench`; figures are ratios of one run on one machine, never a test."""
