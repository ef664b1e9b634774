from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

from sdwatch.cli.shared.exit_codes import ExitCode
from tests.functional.cli import sdwatch


def test_the_demo_survives_its_crash_and_names_files_that_are_there(tmp_path: Path) -> None:
    told = sdwatch(tmp_path, "demo")
    assert told.returncode == ExitCode.OK, told.stdout + told.stderr
    pictures = [Path(p) for p in re.findall(r"^ +(\S+\.png)$", told.stdout, re.M)]
    assert [picture.is_relative_to(tmp_path) for picture in pictures] == [True, True]
    with Image.open(pictures[0]) as castle, Image.open(pictures[1]) as lighthouse:
        assert castle.size == (1024, 1024)
        assert lighthouse.size == (512, 512)
    (why,) = re.findall(r"^ +(\S+WHY\.txt)$", told.stdout, re.M)
    assert "stepz" in Path(why).read_text(encoding="utf-8")
    assert 'unknown field "stepz"' in told.stdout
    assert "not real" in told.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["sdwatch-demo"]


def test_the_demo_leaves_what_is_in_its_folder_alone(tmp_path: Path) -> None:
    from sdwatch.cli.demo import _fresh

    (tmp_path / "sdwatch.yaml").write_text("mine")
    assert _fresh(tmp_path) == tmp_path / "demo-2"
    (tmp_path / "demo-2").mkdir()
    assert _fresh(tmp_path) == tmp_path / "demo-2"
    (tmp_path / "demo-2" / "inbox").mkdir()
    assert _fresh(tmp_path) == tmp_path / "demo-3"
