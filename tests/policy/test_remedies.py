"""Advice names what the kind of WebUI that failed has. Which flags each kind has: what it was
recorded to answer to /cmd-flags; of Forge Neo and stable-diffusion.cpp, their sources.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from sdwatch.config import builtin_signatures
from sdwatch.errors import WebUIReplyError, WebUIServerError
from sdwatch.policy.failure.advice import REMEDIES, Remedy, fitted
from sdwatch.policy.failure.diagnosis import advice_for, judge
from sdwatch.policy.failure.facts import Diagnosis, FailureFacts
from sdwatch.policy.job.catalogue import Kind

FACTS = Path(__file__).parents[1] / "facts"
FLAGS: dict[str, list[str]] = json.loads((FACTS / "flags.json").read_text(encoding="utf-8"))
KINDS = [kind for kind in Kind if kind is not Kind.UNKNOWN]
IGNORED = {Kind.FORGE: {"--medvram", "--medvram-sdxl", "--lowvram", "--no-half", "--no-half-vae"}}
"""Accepted, and without any effect (measured with Forge dfdcbab6)."""

BUILTIN = builtin_signatures()
ANY_FLAG = re.compile(r"(?<![\w-])--[a-z][\w-]*")
OF_CALLS = [signature for signature in BUILTIN if signature.during != "start"]


def known_flags(kind: Kind) -> set[str]:
    return set(FLAGS[kind]) - IGNORED.get(kind, set())


def advices(kind: Kind) -> dict[str, str]:
    """All that a person with this kind of WebUI may be told about a failed call, by its source."""
    black = WebUIReplyError("black", stage="txt2img", status=200, kind="one_colour")
    return {
        **{signature.name: fitted(signature.advice, kind) for signature in OF_CALLS},
        **{diagnosis: advice_for(diagnosis, kind) for diagnosis in Diagnosis},
        "a picture of one colour": judge(FailureFacts(black, kind=kind), BUILTIN).advice,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_no_advice_names_a_flag_that_this_kind_lacks_or_ignores(kind: Kind) -> None:
    # `sdwatch` and git have flags, too, and what is said to one kind may name the flag of another.
    wrong = {
        name: strange
        for name, advice in advices(kind).items()
        if (strange := set(ANY_FLAG.findall(advice)) - known_flags(kind))
    }
    assert wrong == {}


@pytest.mark.parametrize("kind", Kind)
def test_each_kind_has_every_remedy_and_no_brace_is_left_in_its_advice(kind: Kind) -> None:
    assert set(REMEDIES[kind]) == set(Remedy)
    assert not any(f"{{{remedy}}}" in text for text in advices(kind).values() for remedy in Remedy)


def test_the_advice_for_an_unknown_kind_says_whose_each_flag_is() -> None:
    for remedy in (Remedy.LESS_MEMORY, Remedy.VAE_PRECISION, Remedy.FULL_PRECISION):
        text = REMEDIES[Kind.UNKNOWN][remedy]
        for kind, word in ((Kind.FORGE, "Forge: "), (Kind.FORGE_NEO, "Forge Neo: ")):
            (flag,) = ANY_FLAG.findall(text.partition(word)[2].partition(";")[0])
            assert flag in known_flags(kind)


@pytest.mark.parametrize(
    ("kind", "flag"),
    [
        (Kind.FORGE, "--always-low-vram"),
        (Kind.FORGE_NEO, "--lowvram"),
        (Kind.A1111, "--medvram"),
        (Kind.SDNEXT, "--medvram"),
        (Kind.SDCPP, "--offload-to-cpu"),
    ],
)
def test_out_of_memory_is_answered_with_the_flag_of_the_kind(kind: Kind, flag: str) -> None:
    error = WebUIServerError("no memory", status=500, kind="OutOfMemoryError", said="CUDA")
    explanation = judge(FailureFacts(error, kind=kind), BUILTIN)
    assert explanation.diagnosis is Diagnosis.OUT_OF_MEMORY
    assert flag in explanation.advice


def test_braces_that_name_no_remedy_stay_as_they_are() -> None:
    text = "Set `checks: {one_colour: warn}`, {nothing} or {less memory}."
    assert fitted(text, Kind.FORGE) == text


def test_a_remedy_at_the_start_of_a_sentence_starts_with_a_capital() -> None:
    assert fitted("{api}. {api}, or {api}", Kind.A1111) == (
        "Start it with --api. Start it with --api, or start it with --api"
    )
