"""What rows go through before the gate (`rows`), and how training rows are multiplied (`augment`)."""
