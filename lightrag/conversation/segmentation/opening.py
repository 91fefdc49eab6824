"""Which segmenter serves which configuration."""

from __future__ import annotations

from lightrag.conversation.compression import MessageCompressor
from lightrag.conversation.configuration import MemoryConfiguration
from lightrag.conversation.devices import check_device, weights_dtype
from lightrag.conversation.index.vectorizer import Vectorizer
from lightrag.conversation.options import SegmenterOption
from lightrag.conversation.segmentation.base import Segmenter
from lightrag.conversation.segmentation.similarity import PENALTY, SimilaritySegmenter
from lightrag.errors import ConfigurationError


def open_segmenter(
    config: MemoryConfiguration, vectorizer: Vectorizer, compressor: MessageCompressor | None
) -> Segmenter | None:
    """Make the configured segmenter, or ``None`` where each call is one topic.

    Raises:
        ConfigurationError: attention is asked for, but no model is named.
    """
    if not config.topic_segment:
        return None
    option = config.topic_segmenter or SegmenterOption()
    depth = option.configs.depth
    similarity = SimilaritySegmenter(vectorizer, PENALTY if depth is None else depth)
    if option.model_name == "embedding" and not config.precomp_topic_shared:
        return similarity
    from lightrag.conversation.segmentation.attention import AttentionSegmenter
    from lightrag.lexical import LLMLingua2

    if config.precomp_topic_shared and compressor is not None and isinstance(compressor.scorer, LLMLingua2):
        return AttentionSegmenter(compressor.scorer, similarity, option.configs.layers)
    if not option.configs.model_name:
        raise ConfigurationError(
            "topic_segmenter 'llmlingua-2' needs configs.model_name, or precomp_topic_shared with pre_compress: "
            "name a model, or use the segmenter 'embedding'",
            subject="topic_segmenter",
        )
    device = check_device(option.configs.device_map, "topic_segmenter.configs.device_map")
    dtype = weights_dtype(option.configs.torch_dtype, device)
    scorer = LLMLingua2(option.configs.model_name, device=device, dtype=dtype)
    return AttentionSegmenter(scorer, similarity, option.configs.layers)


__all__ = ["open_segmenter"]
