"""What is derived from the history to search it: rows, lexical index, links, vectors. Never the only copy."""
