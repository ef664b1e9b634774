"""What lies in failed/ after a night, made by the real monitor and a WebUI that dies for real."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.monitored import job, monitored

DIES = "- {fault: sigkill-mid-step, when: {prompt: cursed}, times: always}\n"


def test_each_death_has_its_machine_its_tail_and_its_place_in_the_story(tmp_path: Path) -> None:
    with monitored(tmp_path, faults=DIES) as spool:
        spool.drop("cursed.yaml", job("a cursed castle", sampler_name="Euler a"))
        spool.start(once=True)
        spool.ended()
        (run,) = spool.failed()
    for name in ("machine.json", "machine.2.json"):
        seen = json.loads((run / name).read_text(encoding="utf-8"))
        assert seen["at_the_failure"]["memory_total"] > 0
        assert seen["disk_free"].keys() == {"state", "spool"}
        assert "gpu" in seen
    error = json.loads((run / "error.json").read_text(encoding="utf-8"))
    assert len(error["evidence"]) == 6
    assert all((run / name).is_file() for name in error["evidence"])
    decided = [one["decision"].partition(" (")[0] for one in error["decisions"]]
    assert decided[:2] == ["restart and retry", "run the self-test"]
    assert error["webui"]["name"] == "sim"
    why = (run / "WHY.txt").read_text(encoding="utf-8")
    assert why.startswith("the WebUI died during the call")
    assert "Asked for: 64x64, 2 steps, sampler Euler a\n" in why
    assert "Machine:   " in why
    assert f"    sdwatch retry {run.name} --edit --config " in why
    assert "castle" not in why
