"""One file per revision, upgrade only."""
