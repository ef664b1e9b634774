"""Which evidence decides what a failed call is taken for: the table of precedence."""

from __future__ import annotations

from dataclasses import dataclass

from sdwatch.errors import WebUIError, WebUIServerError, WebUIUnreachableError
from sdwatch.known_signatures import builtin_signatures
from sdwatch.policy.failure.diagnosis import Diagnosis, FailureFacts, diagnose, key_to_trace
from sdwatch.policy.failure.signature_file import parse_signatures
from sdwatch.policy.failure.tracebacks import is_generic
from tests.support.tables import table

BUILTIN = builtin_signatures()
NOTHING = "'NoneType' object is not iterable"
HIP = "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 2.00 GiB"
SUSPENDED = "RuntimeError: The GPU device instance has been suspended."
VAGUE = "Could not load library libcudnn: CUDNN_STATUS_NOT_INITIALIZED"
GONE = "AttributeError: 'NoneType' object has no attribute 'sd_checkpoint_info'"


def said(text: str, kind: str = "") -> WebUIServerError:
    return WebUIServerError(f"answered 500: {kind}: {text}", status=500, kind=kind, said=text)


@dataclass(frozen=True)
class Row:
    """`log` of the call, in its order; `gone`: its process ended, with this code."""

    what: str
    error: WebUIError
    log: tuple[str, ...]
    diagnosis: Diagnosis
    gone: int | None = None


ROWS = (
    Row("a generic body, and the cause in the log before it", said(NOTHING, "TypeError"),
        (HIP, f"TypeError: {NOTHING}"), Diagnosis.OUT_OF_MEMORY),
    Row("a generic body, and nothing in the log", said(NOTHING, "TypeError"),
        ("100%|####| 20/20",), Diagnosis.SERVER_ERROR),
    Row("a generic body, and a device that was taken away", said("list index out of range"),
        (SUSPENDED,), Diagnosis.POISONED),
    Row("a generic body, and a log that says hardly why", said(NOTHING), (VAGUE,),
        Diagnosis.SERVER_ERROR),
    Row("a body without a text, and a log that says hardly why", said(""), (VAGUE,),
        Diagnosis.POISONED),
    Row("a body without a text, and the cause in the log", said(""), (HIP,),
        Diagnosis.OUT_OF_MEMORY),
    Row("a body that a signature knows, and another cause in the log",
        said("CUDA out of memory. Tried to allocate"), (SUSPENDED,), Diagnosis.OUT_OF_MEMORY),
    Row("a body that says something of its own, and another cause in the log",
        said("mat1 and mat2 shapes cannot be multiplied (77x2048 and 768x320)", "RuntimeError"),
        ("*** Extension: CUDA out of memory in its preview",), Diagnosis.SERVER_ERROR),
    Row("a body that an earlier fault of the call left behind",
        said("'NoneType' object has no attribute 'sd_checkpoint_info'", "AttributeError"), (HIP,),
        Diagnosis.OUT_OF_MEMORY),
    Row("the same without an earlier fault",
        said("'NoneType' object has no attribute 'sd_checkpoint_info'", "AttributeError"), (GONE,),
        Diagnosis.POISONED),
    Row("the first of two causes in the log", said(NOTHING), (HIP, SUSPENDED),
        Diagnosis.OUT_OF_MEMORY),
    Row("the end of the process, whatever it shows as", said(NOTHING), (HIP,), Diagnosis.CRASH,
        gone=-11),
    Row("the end of a process that gave no reply", WebUIUnreachableError("reset"), (HIP,),
        Diagnosis.CRASH, gone=1),
    Row("a 200 without images whose exception is generic",
        WebUIServerError(f"answered 200: {NOTHING}", status=200, kind="TypeError", said=NOTHING),
        (HIP,), Diagnosis.OUT_OF_MEMORY),
)  # fmt: skip


@table("row", ROWS, ids=lambda row: row.what)
def test_the_earlier_and_more_specific_evidence_decides(row: Row) -> None:
    facts = FailureFacts(row.error, row.gone is not None, row.gone, row.log)
    assert diagnose(facts, BUILTIN).diagnosis is row.diagnosis


@table(
    "text",
    [
        NOTHING,
        "'NoneType' object is not subscriptable",
        "'NoneType' object has no attribute 'to'",
        "cannot unpack non-iterable NoneType object",
        "object of type 'NoneType' has no len()",
        "argument of type 'NoneType' is not iterable",
        "unsupported operand type(s) for *: 'NoneType' and 'float'",
        "'>' not supported between instances of 'NoneType' and 'int'",
        "expected str, bytes or os.PathLike object, not NoneType",
        "int() argument must be a string, a bytes-like object or a real number, not 'NoneType'",
        "list index out of range",
        "pop from empty list",
        "not enough values to unpack (expected 2, got 0)",
        "local variable 'x_sample' referenced before assignment",
        "cannot access local variable 'res' where it is not associated with a value",
        "generator didn't yield",
    ],
)
def test_a_text_that_only_says_what_was_missing_is_generic(text: str) -> None:
    assert is_generic(said(text))
    facts = FailureFacts(said(text), log=(HIP,))
    assert diagnose(facts, BUILTIN).diagnosis is Diagnosis.OUT_OF_MEMORY
    assert key_to_trace(diagnose(FailureFacts(said(text))), said(text)) is None, (
        "no two jobs share it"
    )


@table(
    "text", ["", "KeyError: 'x'", "CUDA out of memory", "Sizes of tensors must match", "not found"]
)
def test_what_says_anything_of_its_own_is_not(text: str) -> None:
    assert not is_generic(said(text))


def test_a_signature_of_the_users_own_decides_for_a_generic_text_too() -> None:
    own = parse_signatures(
        b"signatures:\n- name: mine\n  when: [{said: 'not iterable'}]\n  diagnosis: bad request\n"
        b"  cause: my script wants a list\n  advice: Give it one.\n  source: me\n",
        "own.yaml",
    )
    facts = FailureFacts(said(NOTHING), log=(HIP,))
    assert diagnose(facts, (*own, *BUILTIN)).diagnosis is Diagnosis.BAD_REQUEST
