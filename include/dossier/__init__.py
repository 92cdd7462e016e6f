"""The release dossier: everything about one model version, from its share of the traffic back to its data.

It is put together from the ledger, the registry, the decisions and the object store, and changes none of them. What is
immutable comes with its digest, which is checked whenever it is read; what is gone or altered is said, and fails
nothing.
"""
