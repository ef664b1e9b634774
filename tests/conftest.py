"""What holds for all tests: the marker `posix_only`."""

from __future__ import annotations

import sys

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip on Windows what is marked `posix_only("why")`."""
    for item in items:
        for marker in item.iter_markers("posix_only"):
            reason = "".join(marker.args) if len(marker.args) == 1 else ""
            if not reason.strip() or marker.kwargs:
                raise pytest.UsageError(f"{item.nodeid}: posix_only needs one text that says why")
            if sys.platform == "win32":
                item.add_marker(pytest.mark.skip(reason=f"POSIX only: {reason}"))
