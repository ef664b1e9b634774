"""The machine's tables: every row can be read in the document, and every phase can be reached and
left."""

from __future__ import annotations

from pathlib import Path
from typing import get_type_hints

from sdwatch.policy.lane.machine import _OF_THE_LANE, CALL_TRANSITIONS, MOVES, diagram
from sdwatch.policy.lane.state import CallPhase

ROOT = Path(__file__).parents[2]


def test_the_diagram_of_a_call_is_the_table() -> None:
    text = (ROOT / "docs/architecture-crash.md").read_text(encoding="utf-8")
    assert f"```mermaid\n{diagram()}\n```" in text


def test_whoever_acts_on_an_event_takes_that_event() -> None:
    acts = [(event, row.act) for (_, event), row in CALL_TRANSITIONS.items()]
    for event, act in [*acts, *_OF_THE_LANE.items()]:
        *_, taken, _ = get_type_hints(act).values()
        assert issubclass(event, taken), (event, act)


def ways() -> dict[CallPhase, set[CallPhase]]:
    """Where each phase may lead."""
    found: dict[CallPhase, set[CallPhase]] = {phase: set() for phase in CallPhase}
    for (phase, _), row in CALL_TRANSITIONS.items():
        found[phase] |= set(row.to)
    for phase, moves in MOVES.items():
        found[phase] |= set(moves)
    return found


def reached_from(start: CallPhase) -> set[CallPhase]:
    found, new = {start}, {start}
    while new:
        new = {after for phase in new for after in ways()[phase]} - found
        found |= new
    return found


def test_every_phase_is_reached_from_the_first_and_leads_to_the_answer() -> None:
    assert reached_from(CallPhase.WAITING) == set(CallPhase)
    assert all(CallPhase.ANSWERED in reached_from(phase) for phase in CallPhase)


def test_nothing_follows_the_answer() -> None:
    assert ways()[CallPhase.ANSWERED] == set()


def test_nothing_is_sent_but_what_was_announced_and_recorded() -> None:
    before = {phase for phase, after in ways().items() if CallPhase.SENT in after}
    assert before - {CallPhase.SENT} == {CallPhase.ANNOUNCED}


def test_a_failure_is_recorded_before_anything_follows_it() -> None:
    after = ways()[CallPhase.EXPLAINING] | ways()[CallPhase.INTERRUPTING]
    no_failure = {CallPhase.LEAVING, CallPhase.ANSWERED}  # its reply came, or nobody waits for it
    before = {CallPhase.EXPLAINING, CallPhase.INTERRUPTING}
    assert after - no_failure == {*before, CallPhase.RECORDING}
