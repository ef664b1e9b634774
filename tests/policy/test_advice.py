"""Advice names what the kind of WebUI that failed has. Which flags each kind has: what it was
recorded to answer to /cmd-flags; of Forge Neo and stable-diffusion.cpp, their sources.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from sdwatch.errors import WebUIReplyError, WebUIServerError
from sdwatch.known_signatures import builtin_signatures
from sdwatch.policy.failure.diagnosis import SizeTest, advice_for, diagnose, size_advice
from sdwatch.policy.failure.facts import Diagnosis, FailureFacts
from sdwatch.policy.failure.reply_checks import BadReply
from sdwatch.policy.kinds import table
from sdwatch.policy.kinds.a1111 import A1111
from sdwatch.policy.kinds.forge import FORGE
from sdwatch.policy.kinds.forge_neo import FORGE_NEO
from sdwatch.policy.kinds.kind import Kind, Remedy
from sdwatch.policy.kinds.sdcpp import SDCPP
from sdwatch.policy.kinds.sdnext import SDNEXT
from sdwatch.policy.kinds.unknown import UNKNOWN

DOCS = Path(__file__).parents[2] / "docs"
FACTS = Path(__file__).parents[1] / "facts"
FLAGS: dict[str, list[str]] = json.loads((FACTS / "flags.json").read_text(encoding="utf-8"))
KINDS = [kind for kind in table.KINDS.values() if kind is not UNKNOWN]
REMEDIES = {kind: kind.remedies for kind in table.KINDS.values()}
IGNORED = {FORGE: {"--medvram", "--medvram-sdxl", "--lowvram", "--no-half", "--no-half-vae"}}
"""Accepted, and without any effect (measured with Forge dfdcbab6)."""

BUILTIN = builtin_signatures()
ANY_FLAG = re.compile(r"(?<![\w-])--[a-z][\w-]*")
OF_CALLS = [signature for signature in BUILTIN if signature.during != "start"]


def known_flags(kind: Kind) -> set[str]:
    return set(FLAGS[kind.name]) - IGNORED.get(kind, set())


def advices(kind: Kind) -> dict[str, str]:
    """All that a person with this kind of WebUI may be told about a failed call, by its source."""
    black = WebUIReplyError("black", stage="txt2img", status=200, kind="one_colour")
    return {
        **{signature.name: kind.fitted(signature.advice) for signature in OF_CALLS},
        **{diagnosis: advice_for(diagnosis, kind) for diagnosis in Diagnosis},
        "a picture of one colour": diagnose(FailureFacts(black, kind=kind), BUILTIN).advice,
    }


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_no_advice_names_a_flag_that_this_kind_lacks_or_ignores(kind: Kind) -> None:
    # `sdwatch` and git have flags, too, and what is said to one kind may name the flag of another.
    wrong = {
        name: strange
        for name, advice in advices(kind).items()
        if (strange := set(ANY_FLAG.findall(advice)) - known_flags(kind))
    }
    assert wrong == {}


@pytest.mark.parametrize("kind", REMEDIES, ids=str)
def test_each_kind_has_every_remedy_and_no_brace_is_left_in_its_advice(kind: Kind) -> None:
    assert set(REMEDIES[kind]) == set(Remedy)
    assert not any(f"{{{remedy}}}" in text for text in advices(kind).values() for remedy in Remedy)


def test_the_advice_for_an_unknown_kind_says_whose_each_flag_is() -> None:
    for remedy in (Remedy.LESS_MEMORY, Remedy.VAE_PRECISION, Remedy.FULL_PRECISION):
        text = REMEDIES[UNKNOWN][remedy]
        for kind, word in ((FORGE, "Forge: "), (FORGE_NEO, "Forge Neo: ")):
            (flag,) = ANY_FLAG.findall(text.partition(word)[2].partition(";")[0])
            assert flag in known_flags(kind)


@pytest.mark.parametrize(
    ("kind", "flag"),
    [
        (FORGE, "--always-low-vram"),
        (FORGE_NEO, "--lowvram"),
        (A1111, "--medvram"),
        (SDNEXT, "--medvram"),
        (SDCPP, "--offload-to-cpu"),
    ],
)
def test_out_of_memory_is_answered_with_the_flag_of_the_kind(kind: Kind, flag: str) -> None:
    error = WebUIServerError("no memory", status=500, kind="OutOfMemoryError", said="CUDA")
    explanation = diagnose(FailureFacts(error, kind=kind), BUILTIN)
    assert explanation.diagnosis is Diagnosis.OUT_OF_MEMORY
    assert flag in explanation.advice


def test_braces_that_name_no_remedy_stay_as_they_are() -> None:
    text = "Set `checks: {one_colour: warn}`, {nothing} or {less memory}."
    assert FORGE.fitted(text) == text


def test_a_remedy_at_the_start_of_a_sentence_starts_with_a_capital() -> None:
    assert A1111.fitted("{api}. {api}, or {api}") == (
        "Start it with --api. Start it with --api, or start it with --api"
    )


OOM = WebUIServerError(
    "500", stage="txt2img", status=500, kind="OutOfMemoryError", said="CUDA out of memory."
)


@pytest.mark.parametrize(
    ("payload", "adds"),
    [
        ({"prompt": "a castle", "width": 256, "height": 256, "steps": 24, "batch_size": 1}, False),
        ({"prompt": "a castle", "alwayson_scripts": {}}, False),
        ({"prompt": "a castle <lora:ink:1>"}, True),
        ({"prompt": "a castle", "batch_size": 4}, True),
        ({"prompt": "a castle", "enable_hr": True}, True),
        ({"prompt": "a castle", "alwayson_scripts": {"controlnet": {}}}, True),
    ],
)
def test_the_cause_is_what_the_job_adds_only_if_it_adds_something(
    payload: dict[str, object], adds: bool
) -> None:
    text = size_advice(SizeTest.PASSED, Diagnosis.OUT_OF_MEMORY, "Lower it.", payload)
    assert ("what the job adds" in text) is adds
    assert ("Run the job again as it is." in text) is not adds
    assert text.endswith("Lower it.")


@pytest.mark.parametrize("size_test", [SizeTest.FAILED, SizeTest.PASSED_BEFORE])
def test_nans_in_a_plain_picture_are_blamed_on_the_checkpoint_and_not_on_memory(
    size_test: SizeTest,
) -> None:
    text = size_advice(size_test, Diagnosis.NAN, "Use another checkpoint.", {"prompt": "a castle"})
    assert "memory" not in text
    assert "checkpoint" in text.removesuffix("Use another checkpoint.")


@pytest.mark.parametrize("kind", ["size", BadReply.NO_IMAGE, ""])
def test_advice_for_what_a_job_may_lack_starts_with_if(kind: str) -> None:
    error = WebUIReplyError("x", stage="txt2img", status=200, kind=kind)
    for sentence in re.split(r"(?<=[.;:]) ", diagnose(FailureFacts(error)).advice):
        if re.search("multiple of 64|without", sentence):
            assert sentence.startswith("If ")
    stuck = advice_for(Diagnosis.STUCK, FORGE)
    assert "If the job uses scripts and extensions, remove them one by one." in stuck


def test_the_sample_in_the_readme_has_the_advice_that_the_code_gives() -> None:
    failed = diagnose(FailureFacts(OOM, kind=FORGE), BUILTIN)
    payload = {"prompt": "a castle"}
    advice = size_advice(SizeTest.FAILED, failed.diagnosis, failed.advice, payload)
    assert f"What to do:\n  {advice}\n" in (DOCS / "WHY.txt").read_text(encoding="utf-8")
