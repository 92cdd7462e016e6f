"""Lineage: what came from what, told as OpenLineage events, and read from the records that decide.

The events (`emitter`, `step_events`, `release_events`) are for other systems. What `windtunnel lineage` and `recall`
answer is read from the catalogue, the manifests, the model records and the ledger (`graph`, `recall`): an event that
was lost never changes an answer.
"""
