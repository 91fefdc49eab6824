"""Tiny language-model checkpoints with random weights, built in seconds and shared by the whole test run.

Fixtures (session scope, known to every test through ``tests/conftest.py``); each is the folder of a checkpoint in
Hugging Face format: ``config.json``, ``model.safetensors`` (float32), ``tokenizer.json``, chat template::

    def test_something(tiny_qwen2: Path) -> None:
        model = AutoModelForCausalLM.from_pretrained(tiny_qwen2)

    tiny_qwen2          Qwen2, 2 layers, hidden 128, 4 heads of 32, 2 key-value heads, 4,096 positions
    tiny_llama          Llama, the same shape
    tiny_cross_encoder  BERT with one output, for reranking

:func:`save_causal_lm` builds others: ``save_causal_lm(tmp_path, "mistral", seed=3, num_hidden_layers=4)``.

The tokenizer is a real byte-level BPE of about 600 entries, trained on :data:`TRAINING_TEXT`, with ``<|im_start|>``,
``<|im_end|>`` (end of turn) and ``<|endoftext|>`` (padding, end of text). Any text, Chinese and
emoji included, survives encoding and decoding. The chat template is ChatML *without* a default system message.
Weights are scaled up from the usual initial values, so that the most likely token stands out clearly and two correct
implementations agree on every greedy token. The shapes are ones that vLLM's CPU attention accepts.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

# No test may fetch anything from a model hub; read when huggingface_hub is first imported, hence here.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

TRAINING_TEXT = (
    "The harbour office of Lindholm keeps the records of every ship that has entered since the spring of 1871. "
    "In the first winter the ice closed the bay for forty days, and the council voted to build a longer pier. "
    "What did the council decide, and when was the pier opened? It was opened by the mayor in 1874, at noon. "
    "Answer with the words of the text: who, what, where, when, why, how many. Numbers: 0 1 2 3 4 5 6 7 8 9 10 100. "
    "港口办公室保存着每一艘船的记录。議会は桟橋を建てることを決めた。 Über die Brücke fährt kein Zug; déjà vu, señor. "
    '{"facts": ["a", "b"], "count": 2, "name": null}\n- one item\n- another item\n\nuser assistant system question'
)

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

LARGEST_VOCABULARY = 1000
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def save_tokenizer(
    folder: Path, *, chat_template: str | None = CHAT_TEMPLATE, vocabulary: int = LARGEST_VOCABULARY
) -> Any:
    """Train the tokenizer, save it to ``folder`` and return it as a transformers fast tokenizer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    fast = Tokenizer(models.BPE())
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=1,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=list(SPECIAL_TOKENS),
        show_progress=False,
    )
    fast.train_from_iterator([TRAINING_TEXT], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=fast, eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=4096
    )
    tokenizer.chat_template = chat_template
    tokenizer.save_pretrained(folder)
    return tokenizer


def save_causal_lm(
    folder: Path,
    architecture: str = "qwen2",
    *,
    seed: int = 0,
    chat_template: str | None = CHAT_TEMPLATE,
    weight_scale: float = 4.0,
    **config: Any,
) -> Path:
    """Save a random causal language model of any transformers architecture, with its tokenizer; returns ``folder``.

    Args:
        folder: where to; created if need be.
        architecture: transformers' ``model_type``: qwen2, qwen3, llama, mistral, phi3, gpt2 …
        seed: equal seeds give equal weights.
        chat_template: ``None`` for a base model without one.
        weight_scale: factor on the initial weight matrices.
        config: overrides of the configuration, for example ``num_hidden_layers=4``.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = save_tokenizer(folder, chat_template=chat_template)
    shape: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "dtype": "float32",
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **{**shape, **config}))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(weight_scale)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    return folder


def save_cross_encoder(folder: Path, *, seed: int = 0) -> Path:
    """Save a random BERT with one output and a WordPiece-like tokenizer, readable by sentence-transformers."""
    import torch
    from tokenizers import processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    fast = save_tokenizer(folder, chat_template=None).backend_tokenizer
    fast.add_special_tokens(["[CLS]", "[SEP]"])
    cls, sep = fast.token_to_id("[CLS]"), fast.token_to_id("[SEP]")
    fast.post_processor = processors.BertProcessing(("[SEP]", sep), ("[CLS]", cls))
    PreTrainedTokenizerFast(
        tokenizer_object=fast, cls_token="[CLS]", sep_token="[SEP]", pad_token="<|endoftext|>", model_max_length=128
    ).save_pretrained(folder)
    config = BertConfig(
        vocab_size=fast.get_vocab_size(),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=128,
        pad_token_id=fast.token_to_id("<|endoftext|>"),
        num_labels=1,
        initializer_range=0.3,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        BertForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_qwen2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random Qwen2 chat model."""
    return save_causal_lm(tmp_path_factory.mktemp("checkpoints") / "tiny-qwen2", "qwen2")


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random Llama chat model."""
    return save_causal_lm(tmp_path_factory.mktemp("checkpoints") / "tiny-llama", "llama", seed=1)


@pytest.fixture(scope="session")
def tiny_cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random cross-encoder."""
    return save_cross_encoder(tmp_path_factory.mktemp("checkpoints") / "tiny-cross-encoder")
