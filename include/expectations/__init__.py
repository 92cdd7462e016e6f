"""Expectation suites, and the gate that runs them.

A suite is a module named by `spec.data.suite`. It has `TABLES`, the order in which tables are checked,
`prepare(table, rows, known)`, which adds the columns that expectations look at, and `suite(table)`, the expectations.
"""
