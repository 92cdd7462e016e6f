"""Compliance question answering: find the rule passages that answer a question, and cite them."""
