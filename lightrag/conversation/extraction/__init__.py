"""From topic segments to memory entries: by a language model, or without one by quoting."""

from lightrag.conversation.extraction.base import Extraction, ExtractionRequest, Extractor

__all__ = ["Extraction", "ExtractionRequest", "Extractor"]
