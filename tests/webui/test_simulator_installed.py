"""What is installed beside what a fresh WebUI has: `--has` of the simulator."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdwatch.simulator.__main__ import arguments
from tests.webui.sim import running

REQUEST = {"alwayson_scripts": {"ADetailer": {"args": []}}}
REFINER = {"refiner_checkpoint": "my-refiner", "refiner_switch_at": 0.8}


def test_what_is_installed_is_listed_and_can_be_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "installed.yaml"
    file.write_text("checkpoints: [my-refiner]\nmodules: [ae.safetensors]\nscripts: [adetailer]\n")
    with running(tmp_path, "--has", str(file)) as sim:
        assert "my-refiner" in [each["model_name"] for each in sim.get("sd-models").json()]
        assert [each["model_name"] for each in sim.get("sd-modules").json()] == ["ae.safetensors"]
        assert "adetailer" in sim.get("scripts").json()["txt2img"]
        infos = [each for each in sim.get("script-info").json() if each["name"] == "adetailer"]
        assert [each["is_alwayson"] for each in infos] == [True, True]
        assert sim.txt2img(**REQUEST, **REFINER).status_code == 200


def test_a_fresh_one_has_none_of_that(tmp_path: Path) -> None:
    with running(tmp_path) as sim:
        assert sim.get("sd-modules").json() == []
        assert sim.txt2img(**REQUEST).status_code == 422
        assert sim.txt2img(**REFINER).status_code == 500


@pytest.mark.parametrize("text", ["[a]", "extensions: [a]", "scripts: [", None])
def test_a_file_that_lists_nothing_is_refused(
    tmp_path: Path, text: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "installed.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SystemExit) as ended:
        arguments(["--port", "1", "--has", str(file)])
    assert ended.value.code == 2
    assert str(file) in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["sdnext", "sdcpp"])
def test_kinds_without_such_lists_refuse_the_flag(kind: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        arguments(["--port", "1", "--kind", kind, "--has", str(tmp_path / "x.yaml")])
