"""Self-tests as version 0.1's tree 6976bce recorded them, under names that they no longer have.

tests/recorded/self_tested has the journals of two runs: `a` was blamed on the WebUI, whose third
self-test passed; `bad` failed twice on a WebUI that passed its self-test.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from sdwatch.lane.crash_history_file import CrashHistoryFile
from sdwatch.policy.cluster.lines import lines_in
from sdwatch.policy.failure.ledger import read_ledger
from sdwatch.policy.failure.recovery import Action
from sdwatch.policy.report.for_others import fields_of
from sdwatch.spool.bundle import _journal
from sdwatch.spool.journal import each_call, journal_records
from tests.support.helpers import FakeClock

RECORDED = Path(__file__).parents[1] / "recorded" / "self_tested"
(EXCUSED,) = (RECORDED / "spool" / "done").iterdir()
(BLAMED,) = (RECORDED / "spool" / "failed").iterdir()


def test_an_attempt_that_was_blamed_on_the_webui_is_still_excused() -> None:
    call = read_ledger(journal_records(EXCUSED / "journal.jsonl")).call("1.1")
    assert (call.sent, call.counted, call.excused, call.crash_count) == (3, 1, 1, 0)
    assert call.over is None


def test_a_call_that_a_passed_self_test_blamed_on_the_job_is_still_over() -> None:
    call = read_ledger(journal_records(BLAMED / "journal.jsonl")).call("1.1")
    assert call.over is not None
    assert (call.over["action"], call.over["self_test_passed"]) == (Action.FAIL, True)


@pytest.mark.parametrize(("run", "passed"), [(EXCUSED, [False, False]), (BLAMED, [True])])
def test_who_reads_a_journal_finds_the_results(run: Path, passed: list[bool]) -> None:
    path = run / "journal.jsonl"
    (call,) = each_call(lambda: journal_records(path))
    assert [test["self_test_passed"] for test in call["canary"]] == passed
    assert all(bool(test["unhealthy"]) is not test["self_test_passed"] for test in call["canary"])
    forwarded = [line for line in path.read_bytes().splitlines(keepends=True) if b'"call"' in line]
    tests = [line for line in lines_in(b"".join(forwarded)) if "self_test_passed" in line]
    assert [line["event"] for line in tests] == ["call_self_tested"] * len(passed)
    bundled = [each for each in _journal(run) if "self_test_passed" in each]
    assert bundled == [fields_of(line, ()) for line in tests]


def test_a_webui_that_had_passed_its_self_test_needs_none(tmp_path: Path) -> None:
    lines = (RECORDED / "state/webui-sim/crashes.jsonl").read_bytes().splitlines(keepends=True)
    (passed,) = (number for number, line in enumerate(lines) if b'"well"' in line)
    for known, needs in ((passed, True), (passed + 1, False)):
        path = tmp_path / f"{known}.jsonl"
        path.write_bytes(b"".join(lines[:known]))
        assert CrashHistoryFile(path, (0.1, 0.2), FakeClock()).value.needs_self_test is needs
