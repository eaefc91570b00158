"""Data sets from folders, names, archives and shards, and their batches."""
