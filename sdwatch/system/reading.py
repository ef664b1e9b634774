"""Read a file in pieces, or with a limit. A buffer of the limit's size would be asked for by
`file.read(limit)`: Windows commits all of it, whatever the file has, and is slow or out of memory
then."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

_PIECE = 1 << 20  # bytes


def pieces_of(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the bytes of a file in pieces: it may be a long video. Raises OSError."""
    while piece := file.read(_PIECE):
        yield piece


def read_at_most(file: IO[bytes], most: int) -> bytes:
    """Return the next bytes of a file up to its end, at most so many. Raises OSError."""
    pieces = []
    while most > 0 and (piece := file.read(min(most, _PIECE))):
        pieces.append(piece)
        most -= len(piece)
    return b"".join(pieces)
