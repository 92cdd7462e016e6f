"""Expectation suites, and the gate that runs them.

A suite is a module named by `spec.data.suite`. It has `TABLES`, the order in which tables are checked,
`prepare(table, rows, known)`, which adds the columns that expectations look at, and `suite(table)`, the expectations.

A row that fails an expectation goes to quarantine. An expectation of `severity="warning"` is for what a person should
look at and what is no reason to do without the row: its failures are counted and shown, and the row stays clean.
"""
