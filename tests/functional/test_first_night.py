"""docs/first-night.md: what can be run of it without a WebUI is run, as it is printed there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from sdwatch.cli.init import SIMULATOR, WEBUIS
from sdwatch.cli.shared.exit_codes import ExitCode
from tests.functional.cli import ROOT, sdwatch

PAGE = (ROOT / "docs/first-night.md").read_text(encoding="utf-8")
INITS = re.findall(r"`sdwatch (init ~/renders --webui ([\w-]+))`", PAGE)
ENDS = {
    "run": "needs a WebUI",
    "doctor --start": "needs one, too",
    "status --watch": "never ends",
    "open": "opens a window",
}


def test_the_page_has_an_init_for_each_kind() -> None:
    assert {webui for _, webui in INITS} == {*WEBUIS} - {SIMULATOR}
    on_windows = re.findall(r"`sdwatch init C:\\renders --webui ([\w-]+)`", PAGE)
    assert on_windows == [webui for _, webui in INITS]


@pytest.mark.parametrize(("command", "webui"), INITS, ids=[webui for _, webui in INITS])
def test_the_commands_of_the_first_night_run(tmp_path: Path, command: str, webui: str) -> None:
    renders = tmp_path / "renders"
    made = sdwatch(tmp_path, *command.replace("~/renders", str(renders)).split())
    assert made.returncode == ExitCode.OK, made.stderr
    edit = [line for line in (renders / "sdwatch.yaml").read_text().splitlines() if "EDIT" in line]
    assert any("cwd:" in line for line in edit)
    assert any("url:" in line for line in edit)
    folder = tmp_path / "webui"
    config = (renders / "sdwatch.yaml").read_text()
    config = re.sub(r"(?m)^(    cwd: )\S+", rf"\g<1>{folder.as_posix()}", config)
    (renders / "sdwatch.yaml").write_text(config)
    check = sdwatch(renders, "check")
    assert check.returncode == ExitCode.BAD_CONFIG, "there is no WebUI yet"
    assert str(folder) in check.stdout + check.stderr
    ran = 0
    for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] != ["sdwatch"] or " ".join(words[1:]).startswith((*ENDS, "check")):
                continue
            words = [webui if word == "forge" else word for word in words]
            code = ExitCode.OK
            if words[1] in ("retry", "show"):  # of a run that there is only after a night
                code = ExitCode.NOT_FOUND if words[1] == "retry" else ExitCode.OK
            told = sdwatch(renders, *words[1:])
            assert told.returncode == code, f"{line}: {told.stdout}{told.stderr}"
            ran += 1
    assert ran >= 7
