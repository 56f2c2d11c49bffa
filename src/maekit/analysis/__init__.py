"""Feature matrices in, numbers out: no files, no networks."""
