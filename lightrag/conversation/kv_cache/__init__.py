"""A user's memory read once by a local model and kept as a KV memory, so that a question costs its own tokens only."""
