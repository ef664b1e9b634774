"""Whom is a failure blamed on? Pure."""

from __future__ import annotations

from sdwatch.policy.failure.facts import Blamed, Diagnosis


def whose_fault(
    diagnosis: Diagnosis, explained: Blamed | None = None, tested: Blamed | None = None
) -> Blamed:
    """Return whom a failure is blamed on.

    What a self-test has shown counts most: on a WebUI that passes it, a call that fails twice is
    the job's fault (`tested`; None without a self-test, or where it decided nothing). Then what the
    signature or the rule that explained the failure says (`explained`; None where it does not).
    Then what the diagnosis usually means: a bad request is the job's fault, storage the machine's,
    an interrupt a person's, and all else the WebUI's, until a self-test shows more. What puts a
    WebUI on hold is never blamed on a job, see hold_reason.py.
    """
    return tested or explained or _MEANS.get(diagnosis, Blamed.WEBUI)


_MEANS = {
    Diagnosis.BAD_REQUEST: Blamed.JOB,
    Diagnosis.STORAGE: Blamed.MACHINE,
    Diagnosis.INTERRUPTED: Blamed.PERSON,
}
