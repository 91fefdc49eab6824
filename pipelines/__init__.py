"""Ray Data jobs: each a chain of lightrag stages over a dataset, ending in one commit."""
