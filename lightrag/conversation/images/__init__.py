"""Images attached to messages: read when they are added, kept with the history, found by what is asked in words."""
