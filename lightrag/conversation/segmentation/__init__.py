"""Where one topic ends and the next begins: by embeddings alone, or gated by a compressor's attention."""

from lightrag.conversation.segmentation.base import Segmenter, Turn, turns_of

__all__ = ["Segmenter", "Turn", "turns_of"]
