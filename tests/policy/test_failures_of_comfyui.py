"""What failures of a real ComfyUI mean (ComfyUI 0.33.0, run on CPU 2026-11-28)."""

from __future__ import annotations

import pytest

from sdwatch.errors import WebUIServerError
from sdwatch.policy.failure.diagnosis import Explanation, diagnose
from sdwatch.policy.failure.facts import Diagnosis, FailureFacts
from sdwatch.policy.kinds.kind import Kind
from sdwatch.policy.kinds.table import KINDS
from sdwatch.signatures import builtin_signatures

COMFYUI, FORGE = KINDS["comfyui"], KINDS["forge"]
DAMAGED = (
    ("header too large", "4096 random bytes"),
    ("incomplete metadata, file not fully covered", "the first half of a checkpoint"),
)


def explained(kind: Kind, exception: str, message: str) -> Explanation:
    """A node raised this in a call that names its checkpoint."""
    error = WebUIServerError(f"node x failed: {message}", kind=exception, said=message)
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
