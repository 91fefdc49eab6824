"""Pre-compression of messages by the library's text compressors, as the configuration names them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lightrag.conversation.configuration import MemoryConfiguration
from lightrag.conversation.devices import check_device
from lightrag.conversation.options import EntropyCompressorOption, LinguaCompressorOption
from lightrag.errors import ConfigurationError

if TYPE_CHECKING:
    from lightrag.lexical import LLMLingua2, Scorer, TextCompressor


class MessageCompressor:
    """Shortens messages to a rate or to a number of tokens, whole batches at once.

    Safe to share between threads if its scorer is.
    """

    def __init__(self, compressor: TextCompressor, rate: float | None, target_tokens: int | None = None) -> None:
        self._compressor = compressor
        self._rate = rate
        self._target_tokens = target_tokens

    @property
    def scorer(self) -> Scorer:
        """What judges the words; a topic segmenter may share its model."""
        return self._compressor.scorer

    def compress(self, texts: Sequence[str]) -> list[str]:
        """Shorten every text; one that nothing remains of is kept as it is."""
        shortened = self._compressor.compress(
            list(texts), rate=self._rate, target_tokens=self._target_tokens, per_text=True
        )
        return [done.text or text for done, text in zip(shortened, texts, strict=True)]


def open_compressor(config: MemoryConfiguration) -> MessageCompressor | None:
    """Make the configured pre-compressor, or ``None``; weights are loaded at the first use.

    Raises:
        ConfigurationError: no model is named, or the device does not exist.
    """
    if not config.pre_compress or config.pre_compressor is None:
        return None
    from lightrag.lexical import Forcing, SurprisalScorer, TextCompressor

    option = config.pre_compressor
    if isinstance(option, EntropyCompressorOption):
        entropy = option.configs
        _named(entropy.model_name, "entropy_compress")
        scorer = SurprisalScorer(
            entropy.model_name,
            device=check_device(entropy.device, "pre_compressor.configs.device"),
            window=entropy.max_length,
            word_score="mean" if entropy.word_level_strategy == "average" else "first",
        )
        return MessageCompressor(TextCompressor(scorer), entropy.compress_rate)
    rate = option.configs.compress_config
    force = Forcing(tuple(rate.force_tokens), digits=rate.force_reserve_digit, collapse=rate.drop_consecutive)
    compressor = TextCompressor(open_lingua(option), force=force)
    if rate.target_token > 0:
        return MessageCompressor(compressor, None, rate.target_token)
    return MessageCompressor(compressor, rate.rate)


def open_lingua(option: LinguaCompressorOption) -> LLMLingua2:
    """Make the LLMLingua-2 model of an option."""
    from lightrag.lexical import LLMLingua2

    lingua = option.configs.llmlingua_config
    _named(lingua.model_name, "llmlingua-2")
    return LLMLingua2(
        lingua.model_name,
        device=check_device(lingua.device_map, "pre_compressor.configs.llmlingua_config.device_map"),
        max_batch_size=option.configs.llmlingua2_config.max_batch_size,
        word_score=option.configs.compress_config.token_to_word,
    )


def _named(model: str, option: str) -> None:
    if not model:
        raise ConfigurationError(f"pre_compressor {option!r} needs a model_name: a local path or a hub id")


__all__ = ["MessageCompressor", "open_compressor", "open_lingua"]
