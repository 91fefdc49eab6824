"""What was said and what became of it, durably: messages, buffers, entries, validity, undo log, queues."""

from lightrag.conversation.history.batches import Claim, QueuedBatch
from lightrag.conversation.history.entries import Why
from lightrag.conversation.history.messages import Accepted
from lightrag.conversation.history.queues import Candidate
from lightrag.conversation.history.store import History
from lightrag.conversation.history.waiting import Waiting

__all__ = ["Accepted", "Candidate", "Claim", "History", "QueuedBatch", "Waiting", "Why"]
