"""Memories and corpora as tools for agents, over the Model Context Protocol. Names the tools; holds no logic."""
