"""Examples that run: a corpus written for this project, questions about it, and a demonstration over both."""
