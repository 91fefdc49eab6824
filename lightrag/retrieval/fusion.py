"""Adding up what the dense and the lexical index say about a passage, on one scale: nats of evidence.

Both parts are turned into log-likelihood ratios against "an arbitrary passage of this corpus", so that how far each is
trusted follows from its own score distribution for this question instead of a weight per corpus:

- BM25 is a sum of log odds by construction (Robertson and Zaragoza 2009, section 2), so it is taken as it is: where the
  question's terms are common or absent, it says little.
- Similarities of a question to arbitrary passages are nearly Gaussian. A passage ``z`` deviations above their mean
  carries ``z² / 2`` nats: where the best passage stands out (8 deviations) it outweighs BM25, and among short chatty
  turns (3 deviations) it does not.

Ranks are never used: rank fusion gives both parts equal say, and loses to the better part where one is much better.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32]

DENSE_TRUST = 2 / 3
"""Weight of dense evidence beside BM25's. Below 1 because the tail of similarities is a little heavier than a
Gaussian's. Chosen on the halves of the reference sets that no table reports; flat between 0.5 and 1."""

UNSPOKEN_PASSAGE = 0.01
"""Trust in similarities to passages in a language that the embedder does not speak: enough to order what BM25 leaves
equal. With more, recall falls below BM25's (Arabic, 0.3: from 0.87 to 0.81)."""
UNSPOKEN_QUESTION = 0.3
"""The same where only the question is in such a language: names and loan words still carry over."""

_PRIOR_MEAN = 0.05
_PRIOR_DEVIATION = 0.1
_PRIOR_COUNT = 20
"""A corpus of a few passages says little about its background; these are typical of sentence encoders."""


def dense_evidence(similarities: Scores, background: Scores) -> Scores:
    """Turn similarities to one question into nats; those below the background's mean count against a passage.

    Args:
        similarities: of the passages in question.
        background: of passages from all over the corpus to the same question.
    """
    trust = len(background) / (len(background) + _PRIOR_COUNT)
    mean, variance = (float(background.mean()), float(background.var())) if len(background) else (0.0, 0.0)
    mean = trust * mean + (1 - trust) * _PRIOR_MEAN
    variance = trust * variance + (1 - trust) * _PRIOR_DEVIATION**2
    deviations = (similarities - mean) / max(variance**0.5, 1e-6)
    return np.asarray(np.abs(deviations) * deviations / 2, dtype=np.float32)


def fuse(dense: Scores, lexical: Scores, trust: float | Scores = 1.0) -> Scores:
    """Sum of both parts in nats.

    Args:
        dense: from :func:`dense_evidence`.
        lexical: BM25 scores of the same passages.
        trust: how far the embedder understands question and passages, 0 to 1, one for all or one per passage.
    """
    return DENSE_TRUST * trust * dense + lexical


def trust_in_passages(languages: Iterable[str], spoken: frozenset[str]) -> Scores:
    """How far similarities to each passage can be trusted, by its language.

    Args:
        languages: ISO 639-1 code or ``und`` per passage.
        spoken: what the embedder speaks; empty: everything.
    """
    known = spoken | {"und"}
    return np.array([1.0 if not spoken or code in known else UNSPOKEN_PASSAGE for code in languages], dtype=np.float32)


__all__ = [
    "DENSE_TRUST",
    "UNSPOKEN_PASSAGE",
    "UNSPOKEN_QUESTION",
    "Scores",
    "dense_evidence",
    "fuse",
    "trust_in_passages",
]
