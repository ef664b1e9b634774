"""What Windows says of a file that another program has open for a moment."""

HELD_CODES = frozenset([5, 32, 33])
"""ERROR_ACCESS_DENIED, ERROR_SHARING_VIOLATION, ERROR_LOCK_VIOLATION: virus scanner, indexer and
Explorer open new files daily, and let go of them a moment later (briefcase#1780,
bagit-python#191, golang#16882)."""
