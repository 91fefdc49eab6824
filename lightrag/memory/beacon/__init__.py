"""Beacon memory models (MemoRAG): text compressed into the keys and values of a few special tokens per window."""
