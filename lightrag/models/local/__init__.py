"""Language models that run in this process on transformers: rendering, batching, attention over shared memories."""
