"""Conversation memory in bulk: files of conversations into memories, and consolidation of everybody who changed.

Plain Python; the jobs in ``pipelines`` only schedule it. What is done is read from the history itself: a job that was
killed and one that is run twice do the rest, and nothing again.
"""
