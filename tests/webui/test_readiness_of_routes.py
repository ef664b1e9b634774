"""While a WebUI starts its routes come one after another: what it lacks is not concluded too early,
on real sockets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sdwatch.policy.kinds import sdnext, unknown
from sdwatch.system.clock import SystemClock
from sdwatch.webui.http.catalogue_queries import CatalogueReader
from sdwatch.webui.http.client import SDWebUIClient
from sdwatch.webui.http.health import ReadinessProbe
from sdwatch.webui.http.remembered import Remembered, Routes
from sdwatch.webui.process.readiness import Seen
from tests.support.helpers import FakeClock
from tests.webui.recorded_webui import Answer, RecordedWebUI, recorded

NOT_FOUND = (404, b'{"detail":"Not Found"}')
IDLE = (200, json.dumps({"progress": 0.0, "state": {"job": "", "job_count": 0}}).encode())
LOADED = (200, b'{"type": "sd"}')
SDNEXT, FORGE, SDCPP = Routes(True, True), Routes(True, False), Routes(False, False)


def late(times: int, then: tuple[int, bytes], first: tuple[int, bytes] = NOT_FOUND) -> Answer:
    """So many answers are `first`, as while the route is not there yet."""
    answers: Iterator[Any] = iter([first] * times)
    return lambda _: next(answers, then)


def probe_of(
    server: RecordedWebUI, remembered: Remembered | None = None, clock: Any = None
) -> Callable[[], Any]:
    client = SDWebUIClient(server.url)
    return ReadinessProbe(client, clock or SystemClock(), 30.0, remembered)


def test_a_progress_that_is_not_there_yet_makes_no_server_without_it() -> None:
    for times in (1, 2, 3):
        answers = {"progress": late(times, IDLE), "checkpoint": LOADED}
        with recorded("sdnext", answers) as server:
            probe, known = None, Remembered()
            probe = probe_of(server, known)
            found = [probe() for _ in range(3)]
        assert found[0].reason == Seen.STILL_ADDING.value
        assert found[-1].ready
        assert known.routes == SDNEXT, f"after {times} answers without /progress"


def test_a_checkpoint_route_that_is_not_there_yet_makes_no_forge() -> None:
    """Its load would go unseen, and a call run into it."""
    loading = (200, b'{"type": null}')
    at_work = (200, json.dumps({"progress": 0, "state": {"job": "Load model"}}).encode())
    answers = {"progress": at_work, "checkpoint": late(1, loading)}
    with recorded("sdnext", answers) as server:
        probe = probe_of(server)
        assert [probe().reason for _ in range(3)] == [
            Seen.STILL_ADDING.value, "it is loading its model", "it is loading its model",
        ]  # fmt: skip


def test_a_webui_without_the_checkpoint_route_is_ready_at_the_first_probe() -> None:
    with recorded("forge") as server:
        known = Remembered()
        assert probe_of(server, known)().ready
    assert known.routes == FORGE


def test_a_route_of_an_earlier_incarnation_is_waited_for() -> None:
    known, clock = Remembered(), FakeClock()
    known.note_routes(SDNEXT)
    with recorded("sdnext", {"progress": IDLE, "checkpoint": NOT_FOUND}) as server:
        probe = probe_of(server, known, clock)
        assert [probe().reason for _ in range(4)] == [Seen.STILL_ADDING.value] * 4
        assert not clock.waited, "no look at once proves anything here"
        clock.advance(16)
        assert probe().ready, "another WebUI has its place by now"
    assert known.routes == FORGE


def test_a_server_like_webuis_that_has_no_progress_is_believed_after_a_while() -> None:
    clock = FakeClock()
    with recorded("a1111", {"progress": NOT_FOUND}) as server:
        probe = probe_of(server, clock=clock)
        assert [probe().reason for _ in range(3)] == [Seen.STILL_ADDING.value] * 3
        clock.advance(16)
        assert probe().ready


def test_stable_diffusion_cpp_is_known_at_once_by_its_bare_404() -> None:
    known = Remembered()
    with recorded("sdcpp") as server:
        probe = probe_of(server, known)
        assert probe().ready
        asked = server.asked.count("/sdapi/v1/progress")
        assert [probe().ready for _ in range(3)] == [True] * 3
        assert server.asked.count("/sdapi/v1/progress") == asked, "it is not asked for it again"
    assert known.routes == SDCPP


def test_the_remembered_kind_survives_a_restart_of_the_monitor(tmp_path: Path) -> None:
    path = tmp_path / "webui.json"
    known = Remembered(path)
    known.note_routes(SDNEXT)
    known.note_kind(sdnext.SDNEXT)
    known.note_kind(unknown.UNKNOWN)
    again = Remembered(path)
    assert (again.kind, again.routes) == (sdnext.SDNEXT, SDNEXT)
    for broken in (b"", b"[]", b'{"kind": "x", "progress": 1, "checkpoint": 1}', b"[" * 100_000):
        path.write_bytes(broken)
        again = Remembered(path)
        assert (again.kind, again.routes) == (unknown.UNKNOWN, None)


def test_a_schema_that_breaks_while_routes_are_added_differs_from_no_schema() -> None:
    known = Remembered()
    known.note_kind(sdnext.SDNEXT)
    broken = (500, b'{"error": "KeyError"}')
    with recorded("sdnext", {"/openapi.json": late(1, (404, b"{}"), broken)}) as server:
        reader = CatalogueReader(SDWebUIClient(server.url), 30.0, remembered=known)
        first = reader.read()
        assert reader.unfinished
        assert first.kind is sdnext.SDNEXT, "as in its earlier life"
        assert first.stages is None
        reader.read()
        assert not reader.unfinished, "it has none"
