"""The messages of a real monitor, and of its threads, to real sockets."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

from sdwatch.monitor.notifications import Notifications
from sdwatch.monitor.once import MonitorEnd
from sdwatch.notify.delivery import Delivery, Receipt
from sdwatch.policy.notify.notify_settings import NotifyConfig
from sdwatch.policy.notify.pending import Paces, Pacing
from sdwatch.policy.notify.target import Target
from sdwatch.policy.report.notice import Notice, Topic
from sdwatch.system.clock import SystemClock
from tests.integration.test_comfyui import comfyui
from tests.integration.test_comfyui import job as job_of_comfyui
from tests.notify.receivers import TOKEN, Receiver, dripping, receiver, silent, status
from tests.support.helpers import wait_until
from tests.support.monitored import job, monitored

AT_ONCE = Paces(*[Pacing(0.05, (0.05,))] * 3)
FAILED = Notice("run-1: failed: castle.yaml (out of memory)", Topic.FAILED, "run-1")
HELD = Notice("forge: on hold: no GPU", Topic.ON_HOLD, "forge")
NEVER = threading.Event()
FAILS = "- {fault: structured-500, when: {prompt: cursed}, times: always}\n"


@pytest.fixture
def patient_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a process may take longer to start than a stop waits."""
    monkeypatch.setattr("sdwatch.monitor.notifications.STOP_LIMIT_S", 60.0)


def settings(there: Receiver, **more: Any) -> dict[str, Any]:
    return {"notify": {"webhooks": [there.url], **more}}


def texts(there: Receiver) -> str:
    return "\n".join(f"{got.json['title']}\n{got.json['text']}" for got in there.got)


@pytest.mark.usefixtures("patient_stop")
def test_a_job_that_fails_on_a_comfyui_is_a_message_with_its_node_and_no_prompt(
    tmp_path: Path,
) -> None:
    with (
        receiver() as there,
        comfyui(tmp_path, faults=FAILS, settings=settings(there)) as spool,
    ):
        spool.drop("mill.yaml", job_of_comfyui("a cursed mill"))
        spool.start(once=True)
        assert spool.ended() is MonitorEnd.EMPTY
        said = texts(there)
    assert "mill.yaml" in said
    assert "node sample-1" in said
    assert "cursed" not in said


@pytest.mark.usefixtures("patient_stop")
def test_a_night_ends_with_a_message_that_has_the_counts(tmp_path: Path) -> None:
    with receiver() as there, monitored(tmp_path, faults=FAILS, settings=settings(there)) as spool:
        for number in range(3):
            spool.drop(f"good-{number}.yaml", job("a castle"))
        for number in range(5):
            spool.drop(f"bad-{number}.yaml", "promt: a cursed mill\n")
        spool.start(once=True)
        assert spool.ended() is MonitorEnd.EMPTY
        bodies = [got.json for got in there.got]
    end = bodies[-1]  # on a busy machine there was one before it: the first failure, soon
    assert len(bodies) <= 2
    assert "queue_empty" in end["about"]
    assert (end["done"], end["failed"]) == (3, 5)
    assert sum(body["new_failures"] for body in bodies) == 5
    assert "bad-0.yaml" in bodies[0]["text"]


@pytest.mark.usefixtures("patient_stop")
@pytest.mark.parametrize("asked", [False, True])
def test_messages_have_no_prompts_unless_they_are_asked_for(tmp_path: Path, asked: bool) -> None:
    with (
        receiver() as there,
        monitored(tmp_path, faults=FAILS, settings=settings(there, prompts=asked)) as spool,
    ):
        spool.drop("windmill.yaml", job("a cursed lighthouse", negative_prompt="seagulls"))
        spool.start(once=True)
        spool.ended()
        said = texts(there)
    assert "windmill.yaml" in said
    assert ("lighthouse" in said) is asked
    assert "seagulls" not in said


@pytest.mark.usefixtures("patient_stop")
def test_a_hold_is_in_a_message(tmp_path: Path) -> None:
    with (
        receiver() as there,
        monitored(tmp_path, flags=["--no-checkpoint"], settings=settings(there)) as spool,
    ):
        spool.drop("castle.yaml", job())
        spool.start(once=True)
        assert spool.ended() is MonitorEnd.HOLD
        assert there.got[-1].json["on_hold"] == ["sim"]


@pytest.mark.parametrize("answer", [silent, dripping])
def test_an_address_that_hangs_delays_neither_jobs_nor_the_stop(
    tmp_path: Path, answer: Any
) -> None:
    with receiver(answer) as there, monitored(tmp_path, settings=settings(there)) as spool:
        spool.drop("bad.yaml", "promt: x\n")
        spool.drop("good.yaml", job())
        spool.start(once=True)
        assert spool.ended(30) is MonitorEnd.EMPTY
        assert there.got
    names = [c.cmdline() for c in psutil.Process().children(recursive=True) if c.is_running()]
    assert not [name for name in names if "sdwatch.notify" in name]


def test_what_does_not_arrive_is_in_the_status_and_the_log_and_never_the_address() -> None:
    said: list[str] = []
    with receiver(status(404)) as there:
        config = NotifyConfig(webhooks=(there.url,))
        notifications = Notifications(config, SystemClock(), said.append, paces=AT_ONCE)
        notifications.open()
        notifications.take(FAILED)
        wait_until(notifications.status, 110, "it is in the status")
        (failing,) = notifications.status()
        assert failing["target"] == "webhook 1"
        assert "HTTP 404" in failing["why"]
        assert failing["since"]
        wait_until(lambda: said, 110, "and in the log")
        for _ in range(5):
            notifications.take(FAILED)
        notifications.close(NEVER)
    assert said == [f"notifications: webhook 1 gets no messages: {failing['why']}"]
    assert TOKEN not in repr(notifications.status()) + "".join(said)


def test_it_is_said_when_messages_arrive_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdwatch.monitor.message_thread._FIRST_PAUSE", 0.05)
    answers = [Delivery(Receipt.UNREACHABLE)] * 2 + [Delivery(Receipt.SENT)]
    bodies: list[dict[str, Any]] = []
    said: list[str] = []

    def deliver(target: Target, body: dict[str, Any], *, given_up: Any) -> Delivery:
        del target, given_up
        bodies.append(body)
        return answers[len(bodies) - 1]

    config = NotifyConfig(webhooks=("https://hooks.example.com/x",))
    notifications = Notifications(
        config, SystemClock(), said.append, paces=AT_ONCE, deliver=deliver
    )
    notifications.open()
    notifications.take(FAILED)
    wait_until(lambda: len(said) == 2, 110, "it arrives again")
    assert notifications.status() == []
    notifications.close(NEVER)
    assert [body["new_failures"] for body in bodies] == [1, 1, 1]
    assert "gets messages again" in said[1]


def test_each_address_has_a_thread_so_one_that_hangs_delays_no_other() -> None:
    with receiver(silent) as hangs, receiver() as there:
        config = NotifyConfig(webhooks=(hangs.url, there.url))
        notifications = Notifications(config, SystemClock(), print, paces=AT_ONCE)
        notifications.open()
        notifications.take(HELD)
        wait_until(lambda: there.got and hangs.got, 110, "both get it")
        hurry = threading.Event()
        hurry.set()
        notifications.close(hurry)
        assert there.got[0].json["on_hold"] == ["forge"]


def test_without_addresses_there_is_no_thread_and_nothing_is_imported_for_it() -> None:
    before = threading.active_count()
    notifications = Notifications(NotifyConfig(), SystemClock(), print)
    notifications.open()
    notifications.take(FAILED)
    notifications.close(NEVER)
    assert threading.active_count() == before


def test_the_process_of_the_monitor_never_imports_apprise() -> None:
    with receiver() as there:
        config = NotifyConfig(apprise=(f"json://127.0.0.1:{there.port}/{TOKEN}",))
        notifications = Notifications(config, SystemClock(), print, paces=AT_ONCE)
        notifications.open()
        notifications.take(FAILED)
        wait_until(lambda: there.got, 110, "it arrives")
        notifications.close(NEVER)
    assert "apprise" not in sys.modules
