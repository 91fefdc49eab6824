"""From bytes to text: parse files into documents and cut documents into chunks."""

from lightrag.documents.chunker import Chunker
from lightrag.documents.formats import SUFFIXES
from lightrag.documents.language import Language, detect_language
from lightrag.documents.normalise import normalise
from lightrag.documents.parse import MAX_BYTES, parse_document, read_document
from lightrag.documents.sentences import split_sentences

__all__ = [
    "MAX_BYTES",
    "SUFFIXES",
    "Chunker",
    "Language",
    "detect_language",
    "normalise",
    "parse_document",
    "read_document",
    "split_sentences",
]
