"""Find the signature that explains a failed call or a failed start. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from sdwatch.errors import WebUIUnreachableError
from sdwatch.policy.failure.exits import unsigned, was_asked_to_end, was_killed
from sdwatch.policy.failure.expression import Expression
from sdwatch.policy.failure.facts import Diagnosis, FailureFacts
from sdwatch.policy.failure.noise import decisive, without_noise
from sdwatch.policy.failure.observation import LONGEST_LINE, Observation, joined
from sdwatch.policy.failure.signatures import Signature, Way
from sdwatch.policy.failure.tracebacks import complains_of_a_value, is_opaque

_DEADLY = (Diagnosis.CRASH, Diagnosis.OUT_OF_MEMORY, Diagnosis.POISONED, Diagnosis.STORAGE)
"""What can end a process; a name that it did not find cannot."""


def match(facts: FailureFacts, signatures: Iterable[Signature]) -> tuple[Signature, str] | None:
    """Return the signature that explains a failed call, and in words which evidence decided.

    The order of evidence, strongest first:

    1. the end of the process, before all that it shows as;
    2. what the body says, if a signature knows it, unless that is only the consequence of an
       earlier fault of the same call (`yields`);
    3. what the log of the call says clearly, if the body says nothing, has a generic text that no
       signature knows, or only names such a consequence;
    4. what the body says of that;
    5. what the log says vaguely, where the body says nothing;
    6. the bare status.
    """
    known = [signature for signature in signatures if signature.during != "start"]
    seen = Observation.of(facts)
    error = facts.error
    if facts.process_gone or isinstance(error, WebUIUnreachableError):
        deadly = [signature for signature in known if signature.diagnosis in _DEADLY]
        return _by_traces(deadly, seen)
    if error.status is None and not (error.kind or error.said):
        return None
    return (
        _by_body(known, seen)
        or _by_log(facts, known, seen)
        or _first(known, seen, lambda way: way.by_status)
    )


def poisons(lines: Sequence[str], signatures: Iterable[Signature]) -> bool:
    """Return whether a log shows clearly that its WebUI can generate nothing more."""
    harmful = [each for each in signatures if each.poisons or each.diagnosis is Diagnosis.POISONED]
    return _by_clear_lines(harmful, Observation(log=joined(lines))) is not None


def printed_once(facts: FailureFacts, signatures: Iterable[Signature]) -> tuple[Expression, ...]:
    """Return the `printed` of every way that fits a failed call but for that: what is to be looked
    for in all that the WebUI printed since its start."""
    seen = Observation.of(facts)
    return tuple(
        way.printed
        for signature in signatures
        for way in signature.when
        if way.printed is not None and seen.evidence_for(way.model_copy(update={"printed": None}))
    )


def _by_body(known: list[Signature], seen: Observation) -> tuple[Signature, str] | None:
    """Match the reply, unless that only shows the consequence of an earlier fault of the same call,
    which the log names."""
    found = _first(known, seen, lambda way: way.by_body)
    if found is None or not (found[0].yields or found[0].vague):
        return found
    last, _ = found
    earlier = _by_clear_lines([signature for signature in known if signature is not last], seen)
    if earlier is None:
        return found
    first, evidence = earlier
    poisons = first.poisons or last.poisons
    return first.model_copy(update={"poisons": poisons}), evidence


def _by_log(
    facts: FailureFacts, known: list[Signature], seen: Observation
) -> tuple[Signature, str] | None:
    """Match the log if the body does not name the cause: it says nothing, or complains about a
    missing value, which is the consequence of an earlier, clearer event."""
    if is_opaque(facts):
        return _by_traces(known, seen)
    return _by_clear_lines(known, seen) if complains_of_a_value(facts.error) else None


@dataclass(frozen=True)
class FailedStart:
    """A start that did not become ready. `outputs`: the lines of each of its streams, oldest first.
    `exit_code`: None where the process lives on or the code was not seen. `memory_low`: see Facts.
    """

    outputs: tuple[Sequence[str], ...]
    exit_code: int | None = None
    memory_low: bool | None = None


def why_not_started(start: FailedStart, signatures: Iterable[Signature]) -> Signature | None:
    """Return the signature that explains a failed start; None where nothing is known.

    The upper of two is taken. A line that proves that a start has failed counts anywhere, any other
    only at the end of the output (see `noise.decisive`).
    """
    known = [signature for signature in signatures if signature.during != "call"]
    code = None if start.exit_code is None else unsigned(start.exit_code)
    ended = Observation(exit_code=code, memory_low=start.memory_low)
    # Who ends so was ended by somebody else: nothing that it printed before is the cause.
    if was_asked_to_end(code) or was_killed(code):
        found = _first(known, ended, lambda way: way.by_end)
        return found[0] if found else None
    whole = replace(ended, log="\n".join(joined(lines) for lines in start.outputs))
    end = replace(ended, log="\n".join(joined(decisive(lines)) for lines in start.outputs))
    for signature in known:
        seen = whole if signature.ends_start else end
        if _first([signature], seen, lambda way: way.by_log or way.by_end):
            return signature
    return None


def ends_start(line: str, signatures: Iterable[Signature]) -> bool:
    """Return whether a line of a starting WebUI proves that it will not become ready, although its
    process is still running."""
    (text,) = without_noise([line[:LONGEST_LINE]])
    return any(
        way.by_log and way.also is None and way.log is not None and way.log.search(text)
        for signature in signatures
        if signature.ends_start and signature.during != "call"
        for way in signature.when
    )


def _by_traces(signatures: Sequence[Signature], seen: Observation) -> tuple[Signature, str] | None:
    """Match how the process ended, and the log. The reply of a process that has ended counts after
    the log, which has the cause earlier."""
    own = [signature for signature in signatures if not signature.builtin]
    ours = [signature for signature in signatures if signature.builtin]
    clear = [each for each in ours if not (each.vague or each.knows_the_exit)]
    return (
        _first(own, seen, _leaves_traces)
        or _first((each for each in ours if each.knows_the_exit), seen, _leaves_traces)
        or _earliest(clear, seen)
        or _first(clear, seen, lambda way: way.by_body)
        or _first((each for each in ours if each.vague), seen, _leaves_traces)
    )


def _by_clear_lines(
    signatures: Sequence[Signature], seen: Observation
) -> tuple[Signature, str] | None:
    """Match lines of the log, but only those that say what failed."""
    own = [signature for signature in signatures if not signature.builtin]
    clear = [each for each in signatures if not (each.vague or each.knows_the_exit)]
    return _first(own, seen, lambda way: way.by_log) or _earliest(clear, seen)


def _leaves_traces(way: Way) -> bool:
    return not way.by_status


def _earliest(signatures: Iterable[Signature], seen: Observation) -> tuple[Signature, str] | None:
    """Return the signature of the first event in the log, because later ones may follow from it.
    The lines of one traceback are one event; the upper signature counts."""
    found = [
        (seen.line_number(way), signature, evidence)
        for signature in signatures
        for way in signature.when
        if way.by_log and (evidence := seen.evidence_for(way))
    ]
    if not found:
        return None
    end = seen.end_of_event(min(number for number, _, _ in found))
    return next((signature, evidence) for number, signature, evidence in found if number < end)


def _first(
    signatures: Iterable[Signature], seen: Observation, counts: Callable[[Way], bool]
) -> tuple[Signature, str] | None:
    for signature in signatures:
        for way in filter(counts, signature.when):
            if evidence := seen.evidence_for(way):
                return signature, evidence
    return None
