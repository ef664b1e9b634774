"""What is said of a POST to an external WebUI that broke off: nobody sees its process."""

from __future__ import annotations

from dataclasses import replace

from sdwatch.errors import WebUIUnreachableError
from sdwatch.policy.failure.diagnosis import Diagnosis, key_to_trace
from sdwatch.policy.lane.effects import ExplainFailure
from sdwatch.webui.http.call import CallHandle, PreparedCall
from sdwatch.webui.http.checked_reply import ReplyChecks
from sdwatch.webui.http.external import ExternalWebUI
from sdwatch.webui.http.failure_evidence import EvidenceSource, NothingPrinted
from sdwatch.webui.process.readiness import ProbeResult
from tests.support.fakes import settings_of
from tests.support.helpers import FakeClock

DOWN = ProbeResult(False, "connection refused")


def test_a_connection_that_breaks_while_it_lives_is_no_death_of_it() -> None:
    webui = ExternalWebUI(name="a", probe=lambda: DOWN, clock=FakeClock(), log_file=None)
    assert not webui.adopt(), "it was down at the start; the lane's own probe finds it later"
    settings = replace(settings_of(managed=False), signatures=())
    source = EvidenceSource(webui, settings, ReplyChecks(settings.checks), NothingPrinted(), str)
    handle = CallHandle(PreparedCall("txt2img", {}, None, None, {}), lambda key, _: key)
    error = WebUIUnreachableError("the connection was reset", stage="txt2img")
    failure = source.explain(ExplainFailure(handle.id, error), handle)
    explanation = failure.explanation
    assert explanation.diagnosis is Diagnosis.CRASH
    assert explanation.cause == "the connection was reset"
    assert "no process was seen to end" in explanation.advice
    assert key_to_trace(explanation, error) is None
