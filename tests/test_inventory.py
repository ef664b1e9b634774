"""What a WebUI has, and what its calls have shown that it cannot do."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from sdwatch.lane.inventory import Inventory
from sdwatch.policy.job.calls.catalogue import Catalogue
from tests.support.helpers import FakeClock, wait_until


def inventory_of_nothing() -> Inventory:
    context: Any = SimpleNamespace(
        config=SimpleNamespace(name="sim", health=SimpleNamespace(timeout=1.0)),
        clock=FakeClock(),
        settings=SimpleNamespace(wake=lambda: None),
        remembered=None,
        client=None,
    )
    return Inventory(context, threading.Event(), lambda: True)


def test_what_a_call_shows_while_the_lists_are_read_again_is_kept() -> None:
    inventory = inventory_of_nothing()
    inventory.catalogue = Catalogue()

    class Reader:
        def read_again(self, catalogue: Catalogue, routes: object) -> Catalogue:
            del routes
            inventory.note_cannot("extra-single-image", "", "no upscaler")  # by a run's thread
            return catalogue

    inventory._reader = Reader()  # type: ignore[assignment]
    inventory.read_again(["upscalers"])
    assert inventory.catalogue.cannot == {"extra-single-image": "no upscaler"}


def test_what_jobs_are_not_checked_against_is_a_line_for_each_reason_and_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """ComfyUI has none of seven lists, and said so in seven lines at each of its starts."""
    inventory = inventory_of_nothing()
    found = Catalogue().without_list("loras", "none").without_list("sd-vae", "none")

    class Reader:
        unfinished = False

        def read(self) -> Catalogue:
            return found

    inventory._reader = Reader()  # type: ignore[assignment]
    with caplog.at_level(logging.INFO):
        inventory.read()
        inventory.read()
        assert caplog.messages == ["sim: jobs are not checked against loras, sd-vae: none"]
        found = found.without_list("samplers", "it did not answer")
        inventory.read()
    assert caplog.messages[1:] == [
        "sim: jobs are not checked against loras, sd-vae: none",
        "sim: jobs are not checked against samplers: it did not answer",
    ]


class NotedLock:
    """A lock; `asked` is set once a second one asks for it."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        if self._lock.locked():
            self.asked.set()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_lists_of_the_last_incarnation_do_not_replace_those_of_the_new_one() -> None:
    inventory = inventory_of_nothing()
    inventory.catalogue = old = Catalogue(version="old")
    inventory._reading = lock = NotedLock()  # type: ignore[assignment]
    new = Catalogue(version="new")

    def restart() -> None:
        inventory.start_incarnation()
        inventory.read()

    helper = threading.Thread(target=restart)

    class Reader:
        unfinished = False

        def read(self) -> Catalogue:
            return new

        def read_again(self, catalogue: Catalogue, routes: object) -> Catalogue:
            del catalogue, routes
            helper.start()
            wait_until(lambda: lock.asked.is_set() or not helper.is_alive(), why="it restarted")
            return replace(old)

    inventory._reader = Reader()  # type: ignore[assignment]
    inventory.read_again(["upscalers"])
    helper.join()
    assert inventory.catalogue == new


def test_what_a_call_shows_does_not_undo_lists_that_come_at_that_moment() -> None:
    inventory = inventory_of_nothing()
    inventory.catalogue = Catalogue(version="old")

    class Reader:
        def read_again(self, catalogue: Catalogue, routes: object) -> Catalogue:
            del catalogue, routes
            return Catalogue(version="new")

    prober = threading.Thread(target=lambda: inventory.read_again(["upscalers"]))
    inventory._reader = Reader()  # type: ignore[assignment]

    class Cannot(dict[str, str]):
        """What calls show is added to the catalogue that was there, which is then replaced."""

        def __iter__(self) -> Iterator[str]:
            return iter(self.keys())

        def keys(self) -> Any:
            if prober.ident is None:
                prober.start()
                wait_until(lambda: lock.asked.is_set() or not prober.is_alive(), why="new lists")
            return super().keys()

    inventory._changing = lock = NotedLock()  # type: ignore[assignment]
    inventory._cannot = Cannot()
    inventory.note_cannot("extra-single-image", "", "no upscaler")
    prober.join()
    assert inventory.catalogue.version == "new"
    assert inventory.catalogue.cannot == {"extra-single-image": "no upscaler"}
