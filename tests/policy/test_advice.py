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
from sdwatch.policy.failure.advice import fitted
from sdwatch.policy.failure.diagnosis import advice_for, diagnose
from sdwatch.policy.failure.facts import Diagnosis, FailureFacts
from sdwatch.policy.kinds import table
from sdwatch.policy.kinds.a1111 import A1111
from sdwatch.policy.kinds.forge import FORGE
from sdwatch.policy.kinds.forge_neo import FORGE_NEO
from sdwatch.policy.kinds.kind import Kind, Remedy
from sdwatch.policy.kinds.sdcpp import SDCPP
from sdwatch.policy.kinds.sdnext import SDNEXT
from sdwatch.policy.kinds.unknown import UNKNOWN

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
        **{signature.name: fitted(signature.advice, kind) for signature in OF_CALLS},
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
    assert fitted(text, FORGE) == text


def test_a_remedy_at_the_start_of_a_sentence_starts_with_a_capital() -> None:
    assert fitted("{api}. {api}, or {api}", A1111) == (
        "Start it with --api. Start it with --api, or start it with --api"
    )
