"""Costs: what steps asked for and used, and what that is in money."""
