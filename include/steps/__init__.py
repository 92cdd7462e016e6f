"""Steps: the units of work that run in pods, and the documents that describe them."""
