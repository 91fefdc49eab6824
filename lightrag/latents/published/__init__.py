"""Reproduces the choices of the published FlexRAG and TacZip, defects included."""
