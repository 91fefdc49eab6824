"""Tiny LLMLingua-2 checkpoints of both published kinds, with random weights and real tokenizers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

TEXT = (
    "The harbour at station 0 was opened in 1871 by Marta Quell. Its lighthouse took 3 years to finish and cost 200 "
    "crowns. Visitors often ask who built the lighthouse, and the guide names Marta Quell; nobody else remembers. "
    "After the flood of 1911 (the worst since 1840) the harbour was moved two miles inland. It's said that the "
    "keeper's dog didn't mind. Prices rose by 4.5% in 1912! Was that fair? The council thought so."
)


def save_token_classifier(folder: Path, kind: str, *, seed: int = 0, **shape: Any) -> Path:
    """Save a random two-label classifier; ``kind`` is ``bert`` or ``xlm-roberta``. Returns ``folder``."""
    import torch
    from transformers import BertConfig, BertForTokenClassification, XLMRobertaConfig, XLMRobertaForTokenClassification

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _wordpiece(folder) if kind == "bert" else _unigram(folder)
    config: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "max_position_embeddings": 512 if kind == "bert" else 514,
        "pad_token_id": tokenizer.pad_token_id,
        "num_labels": 2,
        "initializer_range": 0.2,
    } | shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "bert":
            BertForTokenClassification(BertConfig(**config)).save_pretrained(folder)
        else:
            XLMRobertaForTokenClassification(XLMRobertaConfig(**config)).save_pretrained(folder)
    return folder


def _wordpiece(folder: Path) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import BertTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    fast = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    fast.normalizer = normalizers.BertNormalizer(lowercase=False)
    fast.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    fast.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    fast.train_from_iterator([TEXT, "港口 办公室 保存 着 记录 。 ，"], trainer)
    ids = {token: fast.token_to_id(token) for token in special}
    fast.post_processor = processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    tokenizer = BertTokenizerFast(tokenizer_object=fast, do_lower_case=False)
    tokenizer.save_pretrained(folder)
    return tokenizer


def _unigram(folder: Path) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    fast = Tokenizer(models.Unigram())
    fast.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("\n", " ")])
    fast.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    fast.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=300, special_tokens=special, unk_token="<unk>", show_progress=False)
    fast.train_from_iterator([TEXT] * 4, trainer)
    fast.post_processor = processors.RobertaProcessing(
        ("</s>", fast.token_to_id("</s>")), ("<s>", fast.token_to_id("<s>")), trim_offsets=False
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=fast,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
    )
    tokenizer.save_pretrained(folder)
    return tokenizer
