"""A systemd of the tests' own (see booted.py), one for each file of tests."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.booted import Booted, booted


@pytest.fixture(scope="module")
def shared() -> Iterator[Path]:
    """A folder that this machine and the booted one have in common, and all may enter."""
    folder = Path(tempfile.mkdtemp(prefix="sdwatch-systemd-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def machine(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    with booted(tmp_path_factory.mktemp("boot"), [shared]) as system:
        # Tests do not wait ten seconds for each restart.
        system.write("/etc/systemd/system/service.d/soon.conf", "[Service]\nRestartSec=100ms\n")
        system.run("systemctl", "daemon-reload")
        yield system
