"""From pictures on disk to batches. `decode`, `sources` and `scan` need no torch."""
