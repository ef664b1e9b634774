"""The monitor's log: each line has an event from one list, and who follows it misses none."""

from __future__ import annotations

import ast
import json
import logging
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from sdwatch.cli.shared.log_files import set_up_logging
from sdwatch.policy.report.notice import Notice
from sdwatch.system.line_follower import LineFollower
from sdwatch.system.log_events import FACTS, LogEvent, about, bind, bound
from sdwatch.system.state_folder import json_log
from tests.test_structure import MODULES, room, tree_of

LEVELS = {"info", "warning", "error", "exception"}
log = logging.getLogger("sdwatch.test")


@pytest.fixture
def logged(tmp_path: Path) -> Iterator[Path]:
    """The log as JSON, of a few lines before it is rotated; afterwards the loggers as before."""
    logger = logging.getLogger("sdwatch")
    before, level = list(logger.handlers), logger.level
    set_up_logging(tmp_path / "sdwatch.log", 2_000, _nobody)
    yield json_log(tmp_path / "sdwatch.log")
    for handler in set(logger.handlers) - set(before):
        handler.close()
    logger.handlers[:] = before
    logger.setLevel(level)


def _nobody(_: Notice) -> None:
    pass


def calls_that_log() -> Iterator[tuple[str, ast.Call]]:
    for name in MODULES:
        if room(name) == "simulator":
            continue
        for node in ast.walk(tree_of(name)):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="log"), attr=attr)):
                    if attr in LEVELS:
                        yield f"{name}:{node.lineno}", node


def test_every_line_that_is_logged_has_an_event_of_the_list() -> None:
    """What reports.py logs has the event of its topic, or the one that its caller has bound."""
    seen, where = set(), []
    for place, call in calls_that_log():
        (extra,) = [k.value for k in call.keywords if k.arg == "extra"] or [None]
        where.append(place)
        assert extra is not None, f"{place} has no event"
    whole = "\n".join(ast.unparse(tree_of(name)) for name in MODULES)
    seen = set(re.findall(r"LogEvent\.([A-Z_]+)", whole))
    assert len(where) > 40
    assert seen == {event.name for event in LogEvent}


def test_a_line_has_what_its_thread_has_bound_and_what_it_names_itself(logged: Path) -> None:
    def log_lines() -> None:
        process = SimpleNamespace(incarnation=1)
        with bound(lane="forge", incarnation=lambda: process.incarnation, event=LogEvent.HOLD):
            bind(run="r", attempt=1)
            log.info("%s", "first")
            bind(attempt=None)
            process.incarnation = 2
            log.warning("second \x1b[2J", extra=about(LogEvent.CALL_FAILED, call="1.1", status=500))
            other = threading.Thread(target=lambda: log.info("elsewhere"))
            other.start()
            other.join()
        log.info("after")

    # On a thread of its own: other tests have bound facts on this one.
    ThreadPoolExecutor(1).submit(log_lines).result()
    lines = map(json.loads, logged.read_text("utf-8").splitlines())
    told = ("first", "second", "elsewhere", "after")  # what else logs in this process is left out
    first, second, elsewhere, after = (x for x in lines if x["message"].split()[0] in told)
    for line in (first, second, elsewhere, after):
        assert line.pop("at").endswith("Z")
    lane = {"lane": "forge", "run": "r"}
    assert first == {
        **lane, "level": "info", "event": "hold", "attempt": 1, "incarnation": 1, "message": "first"
    }  # fmt: skip
    assert second == {
        **lane, "level": "warning", "event": "call_failed", "call": "1.1", "incarnation": 2,
        "status": 500, "message": "second \\x1b[2J",
    }  # fmt: skip
    assert elsewhere == {"level": "info", "event": "report", "message": "elsewhere"}
    assert after == {"level": "info", "event": "report", "message": "after"}
    assert not {*FACTS} & {*after}


def test_the_lines_for_people_do_not_repeat_what_their_text_names(
    logged: Path, tmp_path: Path
) -> None:
    with bound(lane="forge", run="r"):
        log.info("r: sent", extra=about(LogEvent.CALL_STARTED, call="1.1", images=2))
    line = (tmp_path / "sdwatch.log").read_text("utf-8")
    assert line.endswith("INFO sdwatch.test: r: sent images=2\n")
    assert logged.is_file()


def test_an_internal_error_has_its_traceback_in_one_line(logged: Path) -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        log.exception("internal error", extra=about(LogEvent.INTERNAL_ERROR))
    (line,) = map(json.loads, logged.read_text("utf-8").splitlines())
    assert "ValueError: broken" in line["traceback"]


def test_who_follows_the_log_gets_each_line_once_across_rotations(logged: Path) -> None:
    follower, seen = LineFollower(logged), list[str]()
    for number in range(200):
        log.info("line %d", number)
        if number % 3 == 0:
            seen += follower.poll()
    seen += follower.poll()
    assert logged.with_name("sdwatch.jsonl.1").is_file()
    assert [json.loads(line)["message"] for line in seen] == [f"line {n}" for n in range(200)]


def test_a_late_follower_starts_with_the_predecessor_and_takes_a_new_file(tmp_path: Path) -> None:
    path, predecessor = tmp_path / "log", tmp_path / "log.1"
    follower = LineFollower(path)
    assert follower.poll() == []
    predecessor.write_text("a\nb\n")
    path.write_text("c\nhalf")
    assert follower.poll() == ["a", "b", "c"]
    with open(path, "a") as file:
        file.write(" a line\n")
    assert follower.poll() == ["half a line"]
    path.write_text("new\n")  # emptied and written again
    assert follower.poll() == ["new"]
    path.unlink()
    assert follower.poll() == []
