"""Which prompts of a call may still have a result: those whose result nobody has seen. Pure.

A WebUI that queues prompts may finish one that sdwatch no longer waits for. So the id of each is in
the journal before it is sent, and the next attempt looks for the result of those before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_UNSEEN = ("WebUIUnreachableError", "WebUIStuckError", "WebUIBusyError")
"""Errors of an attempt that ended without an answer, as journals have them. One behind somebody
else's prompt runs when that has ended."""


@dataclass(frozen=True)
class SentPrompt:
    """A prompt that was sent. `id`: a UUID. `is_open`: nobody recorded how its attempt ended: the
    monitor died, so that even its failure is still to be seen."""

    id: str
    is_open: bool = True


@dataclass(frozen=True)
class PromptToSend:
    """The prompt of an attempt. `id`: its own, in the journal by now; `before`: those of earlier
    attempts whose result nobody has seen, the newest first. `may_send`: it is sent where these have
    no result."""

    id: str
    before: tuple[SentPrompt, ...] = ()
    may_send: bool = True


def unseen_prompts(records: Iterable[Mapping[str, Any]], call_id: str) -> tuple[SentPrompt, ...]:
    """Return the prompts of a call whose result nobody has seen, the newest first. `records`: of
    the run's journal."""
    found: list[SentPrompt] = []
    for record in records:
        event = record.get("event")
        if event == "job_changed":
            found.clear()
        elif record.get("call") != call_id:
            continue
        elif event == "call_started":
            prompt_id = record.get("prompt_id")
            found += [SentPrompt(str(prompt_id))] if prompt_id else []
        elif event in _ENDS and found and found[-1].is_open:
            last = found.pop()
            if event == "call_given_up" or record.get("error") in _UNSEEN:
                found.append(SentPrompt(last.id, is_open=False))
    return tuple(reversed(found))


_ENDS = ("call_failed", "call_given_up")
