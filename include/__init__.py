"""Windtunnel's library: everything that runs without Airflow.

The rings (see `[tool.importlinter]` in pyproject.toml): decisions are pure, adapters talk to libraries and the
outside world, and nothing in here imports Airflow.
"""
