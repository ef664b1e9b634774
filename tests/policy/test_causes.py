"""Causes by class, beyond the table of test_signatures.py, which has each real line in the log and
in a plain reply, and each exit code: what decides where two disagree, and that no line that only
looks like one is taken for one."""

from __future__ import annotations

import re

import pytest

from sdwatch.errors import WebUIError, WebUIReplyError, WebUIServerError, WebUIUnreachableError
from sdwatch.known_signatures import builtin_signatures
from sdwatch.policy.failure.diagnosis import diagnose
from sdwatch.policy.failure.facts import Diagnosis, FailureFacts
from sdwatch.policy.failure.matching import match
from sdwatch.policy.failure.observation import first_said, is_only_mentioned
from tests.policy import causes, shadows
from tests.policy.causes import (
    LOOK_ALIKES,
    SAMPLES,
    Sample,
)
from tests.support.tables import table

BUILTIN = builtin_signatures()
GONE = WebUIUnreachableError("http://127.0.0.1:7860/sdapi/v1/txt2img: RemoteDisconnected")
_EXCEPTION = re.compile(
    r"(?P<kind>(?:\w+\.)*\w*(?:Error|Exception|Resources|File|Read)): (?P<said>.*)"
)


def opaque() -> WebUIError:
    return WebUIServerError("the WebUI answered 500", stage="txt2img", status=500)


def replied(text: str) -> WebUIError:
    """The text as a reply has it: with its class where it has one."""
    found = _EXCEPTION.fullmatch(text)
    kind = found["kind"].rpartition(".")[2] if found else ""
    said = found["said"] if found else text.strip()
    return WebUIServerError(f"500: {text}", stage="txt2img", status=500, kind=kind, said=said)


def description_of(text: str, found: FailureFacts) -> str:
    """What a failure says: the list in causes.py that has the text, who decided, what to type."""
    named = {name: value for name, value in vars(causes).items() if name.isupper()}
    listed = [name for name, value in named.items() if isinstance(value, str) and text in value]
    where = f"{', '.join(listed) or 'SAMPLES'} (tests/policy/causes.py)"
    return shadows.failure("tests/policy/test_causes.py", where, text, found)


def check(facts: FailureFacts, sample: Sample) -> None:
    explanation = diagnose(facts, BUILTIN)
    assert explanation.diagnosis is sample.diagnosis, description_of(sample.text, facts)
    assert sample.cause in explanation.cause, description_of(sample.text, facts)
    assert explanation.poisons is sample.poisons, description_of(sample.text, facts)


@table("sample", [s for s in SAMPLES if _EXCEPTION.fullmatch(s.text)], ids=lambda s: s.text[:60])
def test_the_text_of_a_reply_that_has_a_class_is_known(sample: Sample) -> None:
    check(FailureFacts(replied(sample.text)), sample)


OF_EACH_CAUSE = {
    (sample.diagnosis, sample.cause): sample
    for sample in SAMPLES
    if sample.diagnosis in (Diagnosis.OUT_OF_MEMORY, Diagnosis.POISONED)
}


@table("sample", OF_EACH_CAUSE.values(), ids=lambda s: s.text[:60])
def test_a_complaint_about_a_missing_value_yields_to_the_line_before_it(sample: Sample) -> None:
    """AUTOMATIC1111#14623, amdgpu#355, reForge#292."""
    if not match(FailureFacts(opaque(), log=(sample.text,)), BUILTIN)[0].vague:  # type: ignore[index]
        error = replied("TypeError: 'NoneType' object is not iterable")
        check(FailureFacts(error, log=(sample.text,)), sample)


@table(
    "said",
    [
        "TypeError: 'NoneType' object is not iterable",
        "'NoneType' object is not iterable",
        "TypeError: cannot unpack non-iterable NoneType object",
        "TypeError: 'NoneType' object is not subscriptable",
        "AttributeError: 'NoneType' object has no attribute 'shape'",
        "AttributeError: 'Processed' object has no attribute 'images'",
        "UnboundLocalError: local variable 'x' referenced before assignment",
        "UnboundLocalError: cannot access local variable 'x' where it is not associated",
        "IndexError: list index out of range",
        "ValueError: not enough values to unpack (expected 2, got 1)",
        "KeyError: 'samples'",
        "ZeroDivisionError: division by zero",
    ],
)
def test_the_earlier_more_specific_evidence_decides(said: str) -> None:
    log = ("torch.OutOfMemoryError: HIP out of memory. Tried to allocate 896.00 MiB", said)
    assert (
        diagnose(FailureFacts(replied(said), log=log), BUILTIN).diagnosis is Diagnosis.OUT_OF_MEMORY
    )
    assert diagnose(FailureFacts(replied(said)), BUILTIN).diagnosis is Diagnosis.SERVER_ERROR


def test_a_reply_that_names_its_cause_does_not_yield() -> None:
    log = ("torch.OutOfMemoryError: HIP out of memory. Tried to allocate 896.00 MiB",)
    error = replied("RuntimeError: mat1 and mat2 shapes cannot be multiplied (77x2048 and 768x320)")
    assert diagnose(FailureFacts(error, log=log), BUILTIN).diagnosis is Diagnosis.SERVER_ERROR


@table("line", LOOK_ALIKES, ids=lambda line: line[:60])
def test_what_only_looks_like_a_failure_explains_nothing(line: str) -> None:
    silent = WebUIReplyError("the reply has no image", stage="txt2img", status=200)
    for error in (opaque(), silent, replied("TypeError: 'NoneType' object is not iterable")):
        found = FailureFacts(error, log=("before", line, "after"))
        assert match(found, BUILTIN) is None, description_of(line, found)
    found = FailureFacts(GONE, True, 1, ("before", line))
    assert match(found, BUILTIN) is None, description_of(line, found)


@table("line", LOOK_ALIKES, ids=lambda line: line[:60])
def test_a_mention_does_not_hide_the_failure_behind_it(line: str) -> None:
    log = (line, "RuntimeError: MPS backend out of memory (MPS allocated: 5 GB)")
    assert diagnose(FailureFacts(opaque(), log=log), BUILTIN).diagnosis is Diagnosis.OUT_OF_MEMORY


@table(
    ("line", "mentioned"),
    [
        ("RuntimeError: X happened", False),
        (" 40%|####      | 12/30 [36:03<53:52]Error: X", False),
        ("RuntimeError: X. Tried to allocate 2 GiB, to avoid it try max_split_size_mb", False),
        ("Processing: args={'prompt': ['a cat'], 'steps': 20} X when calling", False),
        ("Processing: args={'prompt': ['X'], 'steps': 20} something else", True),
        ("Processing: args={'prompt': 'it\\'s X', 'steps': 20}", True),
        ("prompt: X", True),
        ("Tip: X", True),
        ("no X", True),
        ("x.bin: X: 45%|", True),
    ],
)
def test_whether_a_line_says_it_or_mentions_it(line: str, mentioned: bool) -> None:
    before, _, after = line.partition("X")
    assert is_only_mentioned(before, after) is mentioned
    assert (first_said(re.compile("X"), line) is None) is mentioned


# --- exit codes


@table("code", [1, 3, 100, 128, 160, 255, -40, 0xC0000143, 0x12345678])
def test_an_exit_code_that_says_nothing_is_explained_by_none(code: int) -> None:
    assert match(FailureFacts(GONE, True, code), BUILTIN) is None


def test_a_line_that_says_why_outranks_how_the_process_ended() -> None:
    log = (
        "HW Exception by GPU node-1 (Agent handle: 0x6) reason :GPU Hang",
        "Aborted (core dumped)",
    )
    assert "the GPU hung" in diagnose(FailureFacts(GONE, True, 134, log), BUILTIN).cause
    log = (
        "ggml_vulkan: vk::Device::allocateMemory: ErrorOutOfDeviceMemory",
        "double free or corruption",
    )
    assert "the GPU ran out of memory" in diagnose(FailureFacts(GONE, True, -6, log), BUILTIN).cause


@pytest.mark.parametrize(
    ("low", "cause"),
    [(True, "ran out of memory"), (False, "memory was not low"), (None, "is unknown")],
)
def test_a_wrapper_that_names_the_signal_in_its_own_words_is_known(
    low: bool | None, cause: str
) -> None:
    """reForge#241."""
    log = ("CalledProcessError: Command '['python', 'launch.py']' died with <Signals.SIGKILL: 9>.",)
    assert cause in diagnose(FailureFacts(GONE, True, 1, log, low), BUILTIN).cause
