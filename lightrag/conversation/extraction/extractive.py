"""Extraction without a language model: every message becomes a quote of what it states, or stays as it is."""

from __future__ import annotations

from lightrag.conversation.extraction.base import Extraction, ExtractionRequest, draft_of
from lightrag.conversation.extraction.condense import condense
from lightrag.conversation.extraction.metadata import describe
from lightrag.conversation.index.rows import spoken
from lightrag.conversation.index.speakers import Speakers
from lightrag.conversation.types import EntryDraft, StoredMessage
from lightrag.documents.language import detect_language


class ExtractiveExtractor:
    """Quotes statements and leaves out courtesy and questions."""

    async def extract(self, request: ExtractionRequest) -> Extraction:
        """See :class:`Extractor`."""
        everyone = [stored for segment in request.segments for stored in segment.messages]
        participants = Speakers.of(stored.message for stored in everyone).everyone
        sample = "\n".join(stored.working_text[:400] for stored in everyone[:40])
        language = detect_language(sample).code if sample.strip() else "und"
        # Chat is short, and English is what the word lists know: assume it where nothing can be told.
        language = "en" if language == "und" else language
        drafts = (self._draft(stored, request, language, participants) for stored in request.messages())
        return Extraction(tuple(draft for draft in drafts if draft is not None))

    def _draft(
        self, stored: StoredMessage, request: ExtractionRequest, language: str, participants: frozenset[str]
    ) -> EntryDraft | None:
        kept = condense(stored.working_text, language, participants)
        if not kept.text or kept.importance < request.threshold:
            return None
        text = spoken(stored.message.who, kept.text)
        if not request.metadata:
            return draft_of(stored, text, importance=kept.importance)
        found = describe(kept.text, stored.message.time, language, participants)
        return draft_of(stored, text, importance=kept.importance, **found._asdict())


class VerbatimExtractor:
    """Keeps every message as it is (``text_summary`` off): an entry is the text itself."""

    async def extract(self, request: ExtractionRequest) -> Extraction:
        """See :class:`Extractor`."""
        return Extraction(
            tuple(
                draft_of(stored, spoken(stored.message.who, stored.working_text))
                for stored in request.messages()
                if stored.working_text.strip()
            )
        )


__all__ = ["ExtractiveExtractor", "VerbatimExtractor"]
