"""From a checked configuration to a running engine: which class serves which option."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

from lightrag.conversation.clock import parse_time
from lightrag.conversation.compression import open_compressor
from lightrag.conversation.configuration import MemoryConfiguration
from lightrag.conversation.engine import Engine, EngineOptions
from lightrag.conversation.extraction import ExtractionRequest, Extractor
from lightrag.conversation.extraction.base import ROLES_OF
from lightrag.conversation.extraction.extractive import ExtractiveExtractor, VerbatimExtractor
from lightrag.conversation.extraction.prompted import PromptedExtractor
from lightrag.conversation.history import History
from lightrag.conversation.index.keeper import IndexKeeper
from lightrag.conversation.index.search import SearchWeights, Strategy
from lightrag.conversation.index.vectorizer import Vectorizer
from lightrag.conversation.index.view import LexicalWeights
from lightrag.conversation.intake import IntakeRules
from lightrag.conversation.logs import configure_logging
from lightrag.conversation.models import check_dimension, embedder_of, language_model_of, sampling_of
from lightrag.conversation.pipeline import Pipeline, PipelineOptions
from lightrag.conversation.segmentation.opening import open_segmenter
from lightrag.conversation.stores import (
    HOME,
    history_location,
    open_images,
    open_kv_cache,
    open_vectors,
    picture_rules,
)
from lightrag.conversation.summaries import Summarizer
from lightrag.conversation.update import Consolidator, Reconciler
from lightrag.conversation.update.prompted import PromptedReconciler
from lightrag.conversation.update.rules import RuleReconciler
from lightrag.conversation.usage import UsageMeter
from lightrag.conversation.vectors import Origin, VectorStore
from lightrag.errors import ConfigurationError
from lightrag.models.base import Embedder, LanguageModel


def open_engine(
    config: MemoryConfiguration,
    *,
    embedder: Embedder | None = None,
    language_model: LanguageModel | None = None,
    adopt: bool = False,
) -> Engine:
    """Open everything that a configuration describes. Weights are loaded, and servers called, at the first use.

    Args:
        config: checked.
        embedder: used instead of the one that the configuration names; it stays the caller's to close.
        language_model: the same.
        adopt: models that are handed over are closed with the engine.

    Raises:
        ConfigurationError: something that is named does not exist on this machine, or is in use by another process.
        BackendError: the database or the vector server does not answer.
    """
    if config.logging is not None:
        configure_logging(config.logging)
    owned: list[Embedder | LanguageModel] = [each for each in (embedder, language_model) if adopt and each is not None]
    if embedder is None:
        embedder = embedder_of(config)
        owned.append(embedder)
    check_dimension(config, embedder)
    model = language_model
    if model is None and (model := language_model_of(config.memory_manager)) is not None:
        owned.append(model)
    vectorizer = Vectorizer(embedder)
    with ExitStack() as opened:
        history = History.open(history_location(config))
        opened.callback(history.close)
        store = open_vectors(config, Origin(history.ledger.store_id, embedder.fingerprint, embedder.dimension))
        opened.callback(store.close)
        images = open_images(config, history)
        if images is not None:
            opened.callback(images.close)
        keeper = _keeper(config, history, vectorizer, store)
        compressor = open_compressor(config)
        engine = Engine(
            history,
            store,
            vectorizer,
            keeper,
            Pipeline(
                history,
                embedder.tokenizer,
                _extractor(config, model),
                _pipeline_options(config),
                segmenter=open_segmenter(config, vectorizer, compressor),
                compressor=compressor,
            ),
            Consolidator(history, keeper, store, _reconciler(config, model)),
            UsageMeter(lambda: vectorizer.cost),
            Summarizer(history, keeper, vectorizer, model) if config.summary_retriever is not None else None,
            _engine_options(config),
            model,
            open_kv_cache(config),
            images,
            picture_rules(config),
            tuple(owned),
        )
        opened.pop_all()
    return engine


def _keeper(config: MemoryConfiguration, history: History, vectorizer: Vectorizer, store: VectorStore) -> IndexKeeper:
    lexical = config.context_retriever
    return IndexKeeper(
        history,
        vectorizer,
        store,
        turns=config.retrieve_turns,
        graph=config.graph_mem,
        weights=None if lexical is None else LexicalWeights(lexical.configs.k1, lexical.configs.b),
    )


def _engine_options(config: MemoryConfiguration) -> EngineOptions:
    weights = SearchWeights() if config.spread else SearchWeights(spread=None)
    default = parse_time(config.default_time_stamp) if config.default_time_stamp else None
    strategies: tuple[Strategy, ...] = ("embedding", "context", "hybrid")
    lexical = config.context_retriever
    return EngineOptions(
        messages_use=config.messages_use,
        strategy=_strategy(config),
        indexed=frozenset(strategies if config.index_strategy in (None, "hybrid") else (config.index_strategy,)),
        lexical_depth=200 if lexical is None else lexical.configs.top_k,
        online=config.update == "online",
        intake=IntakeRules(config.max_message_characters, default),
        weights=weights,
    )


def _strategy(config: MemoryConfiguration) -> Strategy:
    """What was asked for, or what the index that was asked for can do."""
    if "retrieve_strategy" in config.model_fields_set or config.index_strategy is None:
        return config.retrieve_strategy
    return config.index_strategy


def _pipeline_options(config: MemoryConfiguration) -> PipelineOptions:
    segmenter = config.topic_segmenter
    sensory = config.sensory_tokens
    if segmenter is not None and "buffer_len" in segmenter.configs.model_fields_set:
        sensory = segmenter.configs.buffer_len
    request = ExtractionRequest((), threshold=config.extract_threshold, metadata=config.metadata_generate)
    return PipelineOptions(
        ROLES_OF[config.messages_use],
        sensory_tokens=sensory,
        short_term_tokens=config.short_term_tokens,
        request=request if config.text_summary else replace(request, threshold=0.0),
    )


def _extractor(config: MemoryConfiguration, model: LanguageModel | None) -> Extractor:
    if not config.text_summary:
        return VerbatimExtractor()
    if model is None:
        if config.extraction_mode == "event":
            raise ConfigurationError(
                "extraction_mode 'event' asks a language model for relations, and memory_manager is 'extractive': "
                "name a model, or use 'flat'",
                subject="extraction_mode",
            )
        return ExtractiveExtractor()
    return PromptedExtractor(model, mode=config.extraction_mode, sampling=sampling_of(config.memory_manager))


def _reconciler(config: MemoryConfiguration, model: LanguageModel | None) -> Reconciler:
    if model is None:
        return RuleReconciler()
    return PromptedReconciler(model, replace(sampling_of(config.memory_manager), max_tokens=512))


__all__ = ["HOME", "open_engine"]
