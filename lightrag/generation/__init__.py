"""Answers from evidence: extractive quotes or a language model's text."""
