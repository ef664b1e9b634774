"""`sdwatch notify test`, and what `sdwatch status` says of messages that do not arrive."""

from __future__ import annotations

from pathlib import Path

from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.cli.status import _monitor as status_lines
from tests.functional.cli import make_spool, sdwatch
from tests.notify.receivers import TOKEN, receiver, status


def test_each_address_gets_a_test_message(tmp_path: Path) -> None:
    with receiver() as one, receiver() as two:
        make_spool(tmp_path, notify={"webhooks": [one.url, two.url]})
        ran = sdwatch(tmp_path, "notify", "test")
        assert (len(one.got), len(two.got)) == (1, 1)
        assert one.got[0].json["about"] == ["test"]
    assert ran.returncode == ExitCode.OK, ran.stderr
    assert ran.stdout.splitlines() == [
        "webhook 1: it was accepted (HTTP 200)",
        "webhook 2: it was accepted (HTTP 200)",
    ]


def test_what_each_address_answered_is_printed_without_the_address(tmp_path: Path) -> None:
    with receiver() as one, receiver(status(401)) as two:
        make_spool(tmp_path, notify={"webhooks": [one.url, two.url]})
        ran = sdwatch(tmp_path, "notify", "test")
    assert ran.returncode == ExitCode.ERROR
    assert "webhook 1: it was accepted" in ran.stdout
    assert "webhook 2: it answered HTTP 401: check the token in the address" in ran.stdout
    assert TOKEN not in ran.stdout + ran.stderr


def test_status_names_an_address_that_gets_no_messages() -> None:
    beat = {
        **{"worker": "w1", "pid": 7, "host": "render1", "hold": "", "lanes": [], "runs": []},
        **{"counts": {"done": 1}, "queued": 0, "waiting": {}},
        "notify": [{"target": "webhook 1", "why": "it answered HTTP 404", "since": "03:12"}],
    }
    lines = "\n".join(status_lines(beat))
    assert "notifications: webhook 1 gets no messages since 03:12: it answered HTTP 404" in lines
    assert "notifications" not in "\n".join(status_lines({**beat, "notify": []}))


def test_without_an_address_it_says_what_to_write(tmp_path: Path) -> None:
    make_spool(tmp_path)
    ran = sdwatch(tmp_path, "notify", "test")
    assert ran.returncode == ExitCode.ERROR
    assert "webhooks:" in ran.stderr
