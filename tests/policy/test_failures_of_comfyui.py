"""What failures of a real ComfyUI mean (ComfyUI 0.33.0, run on CPU 2026-11-28)."""

from __future__ import annotations

import pytest

from sdwatch.errors import WebUIServerError
from sdwatch.known_signatures import builtin_signatures
from sdwatch.policy.failure.diagnosis import Explanation, diagnose
from sdwatch.policy.failure.facts import Diagnosis, FailureFacts
from sdwatch.policy.kinds.kind import Kind
from sdwatch.policy.kinds.table import KINDS
from sdwatch.policy.workflow.prompt_result import read_entry
from tests.webui.kinds import facts

COMFYUI, FORGE = KINDS["comfyui"], KINDS["forge"]
HISTORIES = facts("comfyui", "histories")
DAMAGED = (
    ("header too large", "4096 random bytes"),
    ("incomplete metadata, file not fully covered", "the first half of a checkpoint"),
)


def explained(kind: Kind, exception: str, message: str) -> Explanation:
    """This was raised in a call that names its checkpoint: of ComfyUI by a node."""
    error = WebUIServerError(f"node x failed: {message}", kind=exception, said=message)
    error.node = "CheckpointLoaderSimple" if kind is COMFYUI else ""
    facts = FailureFacts(error, names_checkpoint=True, kind=kind)
    return diagnose(facts, builtin_signatures())


@pytest.mark.parametrize(("words", "file"), DAMAGED)
def test_a_damaged_checkpoint_fails_its_job_without_a_restart(words: str, file: str) -> None:
    """The next prompt loads its own. AUTOMATIC1111 keeps what it could not load selected."""
    kind = "safetensors._safetensors_rust.SafetensorError"
    message = f"Error while deserializing header: {words}"
    explanation = explained(COMFYUI, kind, message)
    assert (explanation.diagnosis, explanation.poisons) == (Diagnosis.BAD_REQUEST, False), file
    assert explained(FORGE, kind, message).poisons


def test_what_has_no_http_status_is_not_shown_with_one() -> None:
    explanation = explained(COMFYUI, "SafetensorError", "Error while deserializing header: x")
    assert "HTTP" not in explanation.evidence


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        ("ERROR: Could not detect model type of: /models/x.safetensors", "loader does not know"),
        ("ERROR: clip input is invalid: None\n\nIf the clip is from a checkpoint loader node your "
         "checkpoint does not contain a valid clip or text encoder model.", "no text encoder"),
        ("ERROR: VAE is invalid: None", "no text encoder"),
    ],
)  # fmt: skip
def test_a_file_of_another_kind_fails_its_job_without_a_restart(message: str, cause: str) -> None:
    explanation = explained(COMFYUI, "RuntimeError", message)
    assert (explanation.diagnosis, explanation.poisons) == (Diagnosis.BAD_REQUEST, False)
    assert cause in explanation.cause


@pytest.mark.parametrize("name", ["error_oom", "error_mm_oom"])
def test_the_tips_of_comfyui_are_no_part_of_the_cause(name: str) -> None:
    failure = read_entry(HISTORIES[name]).failure
    assert failure is not None
    assert failure.exception.endswith("OutOfMemoryError")
    assert "memory" in failure.message
    assert "TIPS" not in failure.message
    assert "This error means" not in failure.message
