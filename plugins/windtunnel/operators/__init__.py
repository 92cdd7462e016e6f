"""Operators: steps in pods, and rollout stages."""
