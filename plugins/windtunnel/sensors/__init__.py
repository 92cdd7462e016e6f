"""Sensors that wait on the triggerer, not in a worker."""
