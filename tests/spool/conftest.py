"""What most tests of the spool start from."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdwatch.spool.folders import Spool
from tests.spool.spools import made_spool
from tests.support.helpers import FakeClock


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return made_spool(tmp_path)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()
