"""Consolidation: what a later entry means for earlier ones."""

from lightrag.conversation.update.base import Decision, Reconciler, UpdateCase
from lightrag.conversation.update.consolidate import Consolidator

__all__ = ["Consolidator", "Decision", "Reconciler", "UpdateCase"]
