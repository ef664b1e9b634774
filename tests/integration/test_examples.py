"""The examples that `init` writes: each runs on the WebUI that they were asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdwatch.cli.init import WEBUIS, add_examples
from tests.monitored import journal, monitored


@pytest.mark.parametrize("webui", WEBUIS)
def test_each_example_runs_on_its_webui_as_it_is(tmp_path: Path, webui: str) -> None:
    kind = () if webui == "simulator" else ("--kind", webui)
    examples = tmp_path / "examples"
    add_examples(examples, webui)
    night = examples / "night.yaml"
    night.write_text(night.read_text(encoding="utf-8").replace("n_iter: 20", "n_iter: 2"), "utf-8")
    with monitored(tmp_path, flags=kind) as spool:
        names = sorted(path.name for path in examples.iterdir())
        for name in names:
            (examples / name).rename(spool.inbox / name)
        spool.start()
        spool.wait_for(done=len(names))
        assert not spool.failed()
        for run in spool.done():
            assert journal(run, "call_failed") == []
        assert spool.events("crash") == []
