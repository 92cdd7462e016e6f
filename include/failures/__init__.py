"""Failures: how a run of a step ended, and what is done about it."""
