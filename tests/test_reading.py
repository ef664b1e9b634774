"""Files are read in pieces, up to a limit."""

from __future__ import annotations

import io

import pytest

from sdwatch.system.reading import read_at_most


class Asked(io.BytesIO):
    """Keeps how much was asked for at once."""

    most = 0

    def read(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        self.most = max(self.most, size)
        return super().read(size)


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (5 << 20) + 1])
def test_a_file_is_read_up_to_its_end_or_the_limit(size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    assert read_at_most(io.BytesIO(data[:size]), 1 << 40) == data[:size]
    assert read_at_most(io.BytesIO(data), size) == data[:size]


def test_no_more_memory_is_asked_for_than_a_file_needs() -> None:
    file = Asked(b"a line\n")
    assert read_at_most(file, 1 << 30) == b"a line\n"
    assert file.most <= 1 << 20
