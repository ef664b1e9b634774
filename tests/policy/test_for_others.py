"""What of a run strangers may see: only what the list names, in the form that it names."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

import sdwatch
from sdwatch.policy.failure.ledger import EVENTS
from sdwatch.policy.job.calls.oom_ladder import ladder, parts_of
from sdwatch.policy.job.calls.payload import Seeds, calls_of
from sdwatch.policy.job.conduct import OomStep
from sdwatch.policy.job.job import parse_job
from sdwatch.policy.report.for_others import (
    ELSEWHERE,
    OWN_SIGNATURE,
    fields_of,
    keys_of,
    tracebacks_of,
    webui_of,
)
from tests.support.tables import table

VELVET = "velvet"


@table(
    ("field", "allowed", "refused"),
    [
        ("event", ["call_failed", "ended"], [VELVET, 5, None, ["ended"]]),
        ("status", [500, None], ["500", VELVET, float("nan"), 10**400, {}]),
        ("counted", [True, False], [VELVET]),
        ("at", ["2026-11-28T10:00:00.123Z"], ["yesterday", "2026-11-28T10:00:00Z velvet"]),
        ("call", ["1.1", "100.2000"], ["1.1 velvet", VELVET, "１.１", f"{VELVET}.1.1"]),
        ("call", ["p4.1.1", "p10000.2.7", "1.1-batch2-1"], ["p.1.1", f"1.1-{VELVET}-", "p4"]),
        ("step", ["batch", "size"], [VELVET]),
        (
            "diagnosis",
            ["out of memory", "internal error", "sdwatch broke"],
            [VELVET, "out of memory velvet"],
        ),
        ("action", ["restart", "self-test"], [VELVET]),
        ("blame", ["WebUI", "job"], ["webui of anna"]),
        ("stage", ["txt2img", "extra-single-image"], ["velvet2img"]),
        ("failure", ["0123456789abcdef"], ["0123456789abcdef0", "76656c766574"]),
        ("raised", ["torch.OutOfMemoryError", "KeyError"], [VELVET, "velvet Error", "a: Error"]),
        ("webui_version", ["v1.10.1", "f2.0.1v1.10.1-previous-659"], [VELVET, "1 velvet"]),
        ("outcome", ["done", "failed"], [VELVET]),
        *((name, [], [VELVET, 5]) for name in ("message", "evidence", "why", "decision", "source")),
        *((name, [], [VELVET, [VELVET]]) for name in ("lines", "probes", "seeds", "images")),
        *((name, [], [VELVET, 5]) for name in ("model", "seed", "prompt", "used", "warnings")),
    ],
)
def test_a_field_is_shown_only_in_its_own_form(
    field: str, allowed: list[Any], refused: list[Any]
) -> None:
    for value in allowed:
        assert fields_of({field: value}, ()).get(field) == value
    for value in refused:
        assert fields_of({field: value}, ()) == {}, value


def recorded_events() -> set[str]:
    """What the code writes into journals."""
    sources = (
        path.read_text(encoding="utf-8") for path in Path(sdwatch.__file__).parent.rglob("*.py")
    )
    return {name for text in sources for name in re.findall(r'\.record\(\s*"([a-z_]+)"', text)}


def test_every_event_of_a_journal_is_shown() -> None:
    assert len(recorded_events()) > 10
    assert recorded_events() <= {
        str(fields_of({"event": e}, ())["event"]) for e in (*EVENTS, "same_fault")
    }


def test_every_id_that_a_call_gets_is_shown() -> None:
    stages = parse_job(b"matrix: {cfg_scale: [5, 7]}\nprompt: a\n", "a.yaml").stages_of(2, 1)
    (call,) = calls_of(1, stages[0], Seeds(1, 1, False), (), 2)
    call = replace(call, fields={**call.fields, "batch_size": 4})
    steps = (OomStep.BATCH, OomStep.TILED_VAE, OomStep.SIZE)
    payload = {"batch_size": 4, "width": 1024, "height": 1024}
    rungs = [rung for rung in ladder(steps, call, payload, None) if not rung.skipped]
    parts = [part for rung in rungs for part, _ in parts_of(call, rung, 0)]
    assert len({rung.step for rung in rungs}) > 1
    for each in (call, *parts):
        assert fields_of({"call": each.id}, ()) == {"call": each.id}


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.slow
@given(_JSON)
def test_no_text_under_any_key_is_shown(value: Any) -> None:
    for record in (value, {"message": value}, {"event": value}, {VELVET: value}):
        shown = fields_of(record, ())
        assert all(not isinstance(v, str) or v == value for v in shown.values())
        assert "message" not in shown
        assert VELVET not in shown


def test_only_a_built_in_signature_is_named() -> None:
    known = {"cuda-oom"}
    assert fields_of({"signature": "cuda-oom"}, known) == {"signature": "cuda-oom"}
    assert fields_of({"signature": "annas velvet"}, known) == {"signature": OWN_SIGNATURE}
    assert fields_of({"signature": ""}, known) == {}


def test_of_a_webui_its_kind_and_version_are_shown() -> None:
    about = {"kind": "forge", "version": "v1.10.1", "name": VELVET, "url": "http://x:1"}
    assert webui_of(about) == {"kind": "forge", "version": "v1.10.1"}
    assert webui_of({"kind": VELVET, "version": VELVET}) == webui_of(VELVET) == {}


class _Inner(BaseModel):
    limit: float = 1.0
    name: str = ""


class _Settings(BaseModel):
    on: bool = False
    how: str = "poll"
    words: tuple[str, ...] = ()
    times: tuple[float, ...] = ()
    env: dict[str, str] = {}
    inner: tuple[_Inner, ...] = ()
    none: str | None = None


def test_of_a_config_the_keys_that_somebody_set_are_shown() -> None:
    settings = _Settings(
        on=True,
        how="poll",
        words=(VELVET,),
        times=(1, 2.5),
        env={VELVET: VELVET},
        inner=(_Inner(limit=5, name=VELVET),),
        none=None,
    )
    assert keys_of(settings, {"poll"}) == {
        "on": True,
        "how": "poll",
        "words": "set",
        "times": [1, 2.5],
        "env": "set",
        "inner": [{"limit": 5, "name": "set"}],
    }
    assert keys_of(_Settings(how=VELVET), {"poll"}) == {"how": "set"}
    assert keys_of(_Settings(), {"poll"}) == {}


@table(
    ("file", "shown"),
    [
        ("/home/anna/forge/modules/processing.py", "modules/processing.py"),
        ("C:\\Users\\Anna M\\forge\\backend\\nn\\unet.py", "backend/nn/unet.py"),
        ("C:\\\\sd\\\\modules_forge\\\\main.py", "modules_forge/main.py"),
        ("/x/anna/venv/lib/python3.10/site-packages/torch/nn/a.py", "torch/nn/a.py"),
        ("D:\\webui\\system\\python\\Lib\\site-packages\\torch\\a.py", "torch/a.py"),
        ("/usr/lib/python3.12/threading.py", "threading.py"),
        ("C:\\Python310\\lib\\threading.py", "threading.py"),
        ("/home/anna/sdwatch/sdwatch/lane/lane.py", "sdwatch/lane/lane.py"),
        ("/sd/extensions/adetailer/scripts/ad.py", "extensions/adetailer/scripts/ad.py"),
        ("/home/anna/forge/launch.py", "launch.py"),
        ("/home/anna/velvet.py", None),
        ("modules.py", None),
        ("/home/anna/modules/my velvet/x.py", None),
        ("/home/anna/modules/../velvet.py", None),
        ("/home/anna/modules/ärger.py", None),
        ("<string>", None),
    ],
)
def test_a_frame_names_its_file_only_within_a_package(file: str, shown: str | None) -> None:
    lines = [
        "Traceback (most recent call last):",
        f'  File "{file}", line 12, in sample',
        f"    x = {VELVET}",
        f"RuntimeError: {VELVET}",
    ]
    expected = f"{ELSEWHERE}:12" if shown is None else f"{shown}:12 sample"
    assert [*tracebacks_of(lines)] == [{"exception": "RuntimeError", "frames": [expected]}]


def test_an_exception_with_another_name_than_one_is_not_named() -> None:
    lines = ["Traceback (most recent call last):", '  File "/x/modules/a.py", line 1, in b', VELVET]
    assert [*tracebacks_of(lines)] == [{"exception": None, "frames": ["modules/a.py:1 b"]}]
