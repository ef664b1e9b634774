"""Prompts that mean something to AUTOMATIC1111 only, in a job for ComfyUI."""

from __future__ import annotations

from dataclasses import replace

from sdwatch.policy.job.calls.catalogue import Catalogue
from sdwatch.policy.job.calls.preflight import check_against
from sdwatch.policy.job.job import parse_job
from sdwatch.policy.kinds.comfyui import COMFYUI
from tests.facts.catalogues import catalogue
from tests.support.tables import table

EMBEDDINGS = {"loaded": {"easynegative": {}, "bad-hands.v2": {}}, "skipped": {}}
KNOWN = Catalogue(COMFYUI, stages=dict.fromkeys(COMFYUI.stages_without_schema)).with_list(
    "embeddings", EMBEDDINGS
)


def warnings(text: str, known: Catalogue = KNOWN) -> list[str]:
    job = parse_job(f"negative_prompt: fog\nprompt: '{text}'\n".encode(), "job.yaml")
    checked = check_against(job, known)
    assert checked.problems == ()
    return [warning.located("job.yaml") for warning in checked.warnings]


@table(
    ("text", "why"),
    [
        ("a [castle:ruin:0.5] at night", "[from:to:when] changes no prompt"),
        ("a castle [in fog:0.3]", "[from:to:when] changes no prompt"),
        ("a [red|blue] castle", "[a|b] takes no turns"),
        ("a castle AND a lake", "AND joins no prompts"),
        ("a castle, BREAK, a lake", "BREAK starts no part"),
        (
            "a castle, Easynegative",
            '"easynegative" is a plain word; write "embedding:easynegative"',
        ),
        ("bad-hands.v2", 'write "embedding:bad-hands.v2"'),
    ],
)
def test_what_comfyui_takes_for_plain_words_is_a_warning(text: str, why: str) -> None:
    (line,) = warnings(text)
    assert line.startswith("job.yaml:2:9: this WebUI (ComfyUI): ")
    assert why in line


@table(
    "text",
    [
        "a castle (in fog:1.2), [blurry]",
        "sand and breakers, brand new",
        "a castle, embedding:easynegative",
        "AND",
        "{red|blue}",
        "easynegatives",
    ],
)
def test_what_means_the_same_there_is_none(text: str) -> None:
    assert warnings(text) == []


def test_other_webuis_know_them() -> None:
    assert warnings("a [castle:ruin:0.5] AND easynegative BREAK", catalogue("a1111")) == []
    assert warnings("easynegative", replace(KNOWN, lists={})) == []


def test_a_payload_is_sent_to_no_comfyui() -> None:
    job = parse_job(b"stages:\n- txt2img: {prompt: x, payload: {foo: 1}}\n", "job.yaml")
    (problem,) = check_against(job, KNOWN).problems
    assert problem.located("job.yaml") == (
        "job.yaml:2:39: this WebUI (ComfyUI) has no field foo: what `payload` has is sent by /sdapi"
    )
