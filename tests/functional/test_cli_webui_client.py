"""`check --against` and `canary` say what to do about a WebUI that cannot take a job now."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from sdwatch.cli.shared import webui_client
from sdwatch.cli.shared.webui_client import client_of, webui_at
from sdwatch.errors import WebUIError
from tests.webui.recorded_webui import Answer, RecordedWebUI, recorded

NOT_FOUND = (404, b'{"detail":"Not Found"}')
NO_API: Mapping[str, Answer] = {
    "/": (200, b"a page"),
    "progress": NOT_FOUND,
    "sd-models": NOT_FOUND,
}
LOADS: Mapping[str, Answer] = {
    "progress": (200, b'{"progress": 0.0, "state": {"job": "Load model"}}'),
    "checkpoint": (200, b'{"type": null}'),
}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second look does not wait."""
    monkeypatch.setattr(webui_client, "PROBE_INTERVAL_S", 0)


def why_not(kind: str, instead: Mapping[str, Answer]) -> str:
    with recorded(kind, instead) as server, pytest.raises(WebUIError) as caught:
        client_of(webui_at(server.url, None))
    assert server.posts == []
    return str(caught.value)


@pytest.mark.parametrize(
    ("kind", "instead", "advice"),
    [
        ("forge", NO_API, "either it was started without --api: add that flag; or it is still"),
        ("forge", {"progress": (401, b"{}")}, "set `username` and `password` in the con"),
        ("a1111", {"sd-models": (200, b"[]")}, "put one into its models folder"),
        ("sdnext", LOADS, "wait until the model is loaded, then try again"),
        ("forge", {"progress": (500, b"{}")}, "if it is not running, start it, then try again"),
    ],
)
def test_the_reason_says_what_to_do(kind: str, instead: Mapping[str, Answer], advice: str) -> None:
    assert advice in why_not(kind, instead)


def test_routes_that_come_up_in_a_moment_are_waited_for() -> None:
    def late(server: RecordedWebUI) -> tuple[int, bytes]:
        is_first = server.asked.count("/sdapi/v1/progress") == 1
        return NOT_FOUND if is_first else (200, b'{"progress": 0.0, "state": {"job": ""}}')

    def models(server: RecordedWebUI) -> tuple[int, bytes]:
        is_first = server.asked.count("/sdapi/v1/sd-models") == 1
        return NOT_FOUND if is_first else (200, b'[{"title": "a"}]')

    instead: Mapping[str, Answer] = {"/": (200, b"a page"), "progress": late, "sd-models": models}
    with recorded("forge", instead) as server:
        client_of(webui_at(server.url, None)).close()
