"""Data: from a source's deliveries to a published dataset version, row by row accounted for.

`ingest` copies deliveries into immutable raw batches, `validate` divides a batch into clean and quarantined rows, and
`publish` makes a dataset version of the clean ones. Each is a step (`python -m include.data STEP --run URI`).
"""
