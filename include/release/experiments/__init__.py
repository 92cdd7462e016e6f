"""Experiments on live traffic: several model versions at once, and a judgement that may be asked for at any time."""
