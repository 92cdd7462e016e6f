"""Where bytes and records live: object store, dataset tables, ledger database."""
