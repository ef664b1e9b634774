"""What sdwatch asks a WebUI for, on real sockets: lists missing, slow, broken, and none at all."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pytest

from sdwatch.policy.job.calls.catalogue import LISTS, NODE_CLASSES, Catalogue
from sdwatch.policy.job.stage.stage_kinds import API
from sdwatch.policy.kinds.comfyui import COMFYUI
from sdwatch.policy.kinds.forge import FORGE
from sdwatch.policy.kinds.kind import Dialect, Kind
from sdwatch.policy.kinds.sdcpp import SDCPP
from sdwatch.policy.kinds.table import kind_named
from sdwatch.policy.kinds.unknown import UNKNOWN
from sdwatch.system.clock import SystemClock
from sdwatch.webui.http.catalogue_queries import CatalogueReader
from sdwatch.webui.http.client import SDWebUIClient
from sdwatch.webui.http.comfyui_client import ComfyUIClient
from sdwatch.webui.http.found import FoundClient
from sdwatch.webui.http.health import ReadinessProbe
from tests.facts.catalogues import KINDS, catalogue
from tests.support.helpers import free_port
from tests.webui.recorded_webui import Answer, RecordedWebUI, hangs, recorded


def read(server: RecordedWebUI, timeout: float = 30.0) -> Catalogue:
    return CatalogueReader(SDWebUIClient(server.url), timeout).read()


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_found_with_its_lists(kind: str) -> None:
    with recorded(kind) as server:
        made = read(server)
    expected = catalogue(kind)
    assert (made.kind, made.lists, made.stages) == (
        kind_named(kind),
        expected.lists,
        expected.stages,
    )
    assert made.missing.keys() == expected.missing.keys()
    assert max(Counter(server.asked).values()) == 1


def test_lists_that_the_schema_does_not_name_are_not_asked_for() -> None:
    with recorded("forge") as server:
        made = read(server)
    assert f"{API}sd-vae" not in server.asked
    assert made.missing == {"sd-vae": "it has no such list"}
    assert len(server.asked) == len(LISTS)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((500, b'{"error": "x"}'), "it answered 500"),
        ((404, b""), "it has no such list"),
        ((200, b"[{"), "its answer is unusable"),
        ((200, b'{"a": 1}'), "its answer is unusable: it is not a list"),
        ((200, b'["a", "b"]'), "its answer is unusable: it names nothing"),
        ((200, b""), "its answer is unusable"),
        ((429, b""), "it answered 429"),
    ],
)
def test_a_list_that_is_broken_is_not_known(answer: Answer, why: str) -> None:
    with recorded("forge", {"loras": answer}) as server:
        made = read(server)
    assert made.missing["loras"].startswith(why)
    assert "loras" not in made.lists
    assert replace(made, missing={}, lists={}).kind is FORGE
    assert made.lists["sd-vae" if "sd-vae" in made.lists else "embeddings"]


def test_a_list_that_does_not_come_is_not_known_and_the_others_are() -> None:
    with recorded("forge", {"upscalers": hangs}) as server:
        made = read(server, timeout=5.0)
    assert made.missing["upscalers"] == "it did not answer"
    assert made.lists["embeddings"] is not None


def test_who_does_not_answer_twice_is_asked_no_more() -> None:
    silent: Mapping[str, Answer] = dict.fromkeys(("sd-models", "samplers", "schedulers"), hangs)
    with recorded("forge", silent) as server:
        made = read(server, timeout=5.0)
    assert server.asked == ["/openapi.json", f"{API}sd-models", f"{API}samplers"]
    assert not made.lists


def test_nothing_is_known_of_one_that_is_not_there() -> None:
    with recorded("forge") as server:
        url = server.url
    made = CatalogueReader(SDWebUIClient(url), 1.0).read()
    assert (made.kind, made.lists, made.stages) == (UNKNOWN, {}, None)


def test_a_comfyui_that_does_not_answer_is_still_one_and_is_asked_again() -> None:
    """While its manager restarted it, each job with a workflow was refused by a WebUI `of an
    unknown kind`."""
    url = f"http://127.0.0.1:{free_port()}"
    client = FoundClient(SDWebUIClient(url), lambda: ComfyUIClient(url), Dialect.PROMPTS)
    reader = CatalogueReader(client, 1.0)
    for made in (reader.read(), reader.read_again(Catalogue(COMFYUI), {NODE_CLASSES})):
        assert (made.kind, made.classes) == (COMFYUI, None)
        assert "workflow" in (made.stages or {})
        assert reader.unfinished


@pytest.mark.parametrize(
    "answer",
    [(200, b"{"), (200, b"[]"), (200, b'{"paths": 1}'), (500, b""), (404, b'{"detail":1}')],
)
def test_without_a_schema_all_lists_are_asked_for(answer: Answer) -> None:
    with recorded("a1111", {"/openapi.json": answer}) as server:
        made = read(server)
    assert made.kind is UNKNOWN
    assert server.asked[1:] == [API + route for route in LISTS]
    assert "DPM++ 2M" in made.lists["samplers"]


def test_some_lists_are_read_again() -> None:
    with recorded("forge", {"loras": (200, b'[{"name": "new"}]')}) as server:
        reader = CatalogueReader(SDWebUIClient(server.url), 30.0)
        made = reader.read_again(catalogue("forge"), {"loras", "sd-models"})
    assert "new" in made.lists["loras"]
    assert made.lists["samplers"] is catalogue("forge").lists["samplers"]
    assert server.asked == [f"{API}sd-models", f"{API}loras"]


def test_nothing_is_asked_of_it_once_sdwatch_stops() -> None:
    with recorded("forge") as server:
        made = CatalogueReader(SDWebUIClient(server.url), 30.0, lambda: True).read()
    assert server.asked == []
    assert not made.lists


def test_the_version_of_sdnext_is_its_own_answer() -> None:
    said = b'{"app": "sd.next", "updated": "2026-07-23", "commit": "058a7f0c"}'
    with recorded("sdnext", {"version": (200, said)}) as server:
        assert read(server).version == "2026-07-23 058a7f0c"
    with recorded("sdnext") as server:
        assert read(server).version == ""


def test_a_server_without_progress_and_without_a_checkpoint_is_unusable() -> None:
    with recorded("sdcpp", {"sd-models": (200, b"[]")}) as server:
        result = ReadinessProbe(SDWebUIClient(server.url), SystemClock(), 30.0)()
    assert result.unusable
    assert "no checkpoint" in result.reason


def progress(job: str) -> bytes:
    return json.dumps({"progress": 0.0, "state": {"job": job, "job_count": 0}}).encode()


def test_sdnext_is_not_ready_while_it_loads_its_model() -> None:
    """It answers meanwhile, and would answer a call with 200 and no picture (sdnext.md)."""
    said = {"type": None, "job": "Load model"}

    def checkpoint(_: object) -> tuple[int, bytes]:
        return 200, json.dumps({"type": said["type"], "class": None}).encode()

    def where(_: object) -> tuple[int, bytes]:
        return 200, progress(said["job"] or "")

    with recorded("sdnext", {"checkpoint": checkpoint, "progress": where}) as server:
        probe = ReadinessProbe(SDWebUIClient(server.url), SystemClock(), 30.0)
        assert [probe().reason for _ in range(5)] == ["it is loading its model"] * 5
        said.update(type="sd", job="")
        assert probe().ready
        said.update(type=None)  # unloaded since, by a person: the next call loads it
        assert probe().ready
        assert server.asked.count(f"{API}checkpoint") == 6


def test_sdnext_that_loads_nothing_before_the_first_call_is_ready_at_the_second_probe() -> None:
    nothing = (200, b'{"type": null, "class": null}')
    with recorded("sdnext", {"checkpoint": nothing, "progress": (200, progress(""))}) as server:
        probe = ReadinessProbe(SDWebUIClient(server.url), SystemClock(), 30.0)
        assert [probe().ready for _ in range(3)] == [False, True, True]


@pytest.mark.parametrize(
    ("kind", "version", "words"),
    [
        (FORGE, "f2.0.1", "Forge f2.0.1"),
        (FORGE, "", "Forge"),
        (SDCPP, "stable-diffusion.cpp", "stable-diffusion.cpp"),
        (SDCPP, "stable-diffusion.cpp master-602", "stable-diffusion.cpp master-602"),
        (SDCPP, "", "stable-diffusion.cpp"),
    ],
)
def test_a_kind_and_its_version_are_named_and_no_name_twice(
    kind: Kind, version: str, words: str
) -> None:
    assert kind.with_version(version) == words


BROKEN = (500, b'{"error": "ValidationError", "errors": "1 validation error for ResProcessImage"}')


@pytest.mark.parametrize(
    ("answer", "cannot"),
    [(BROKEN, True), ((200, b"{}"), False), ((500, b'{"error": "OSError"}'), False),
     ((429, b"{}"), False)],
)  # fmt: skip
def test_whether_sdnext_can_upscale_is_tried_where_it_may_be(answer: Answer, cannot: bool) -> None:
    with recorded("sdnext", {"extra-single-image": answer}) as server:
        client = SDWebUIClient(server.url)
        made = CatalogueReader(client, 30.0, may_try=lambda: True).read()
        assert CatalogueReader(client, 30.0).read().cannot == {}, "not beside a monitor"
    assert ("extra-single-image" in made.cannot) == cannot
    assert len(server.posts) == 1


def test_other_webuis_are_not_tried_and_sdnext_is_not_asked_for_a_list_that_is_an_error() -> None:
    for kind in KINDS:
        with recorded(kind) as server:
            CatalogueReader(SDWebUIClient(server.url), 30.0, may_try=lambda: True).read()
        assert bool(server.posts) == (kind == "sdnext")
        assert (f"{API}schedulers" in server.asked) == (kind != "sdnext")
