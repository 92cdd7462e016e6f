"""Model families: one folder each, with `family.yaml` and the family's own code."""
