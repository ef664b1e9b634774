"""The names of files by which people control a spool."""

from __future__ import annotations

from sdwatch.policy.queue.control import cancelled_by, frees_gpu, is_cancel, is_hold, markers_of
from tests.support.tables import table


@table("name", ["hold", "hold.txt", "Hold", "HOLD.TXT"])
def test_a_person_holds_everything_in_any_case(name: str) -> None:
    assert is_hold(name)
    assert not is_cancel(name)


@table("name", ["HOLD-forge.txt", "hold.md", "holdup", "hold.txt.txt", "old", "hold.tmp", ""])
def test_what_only_looks_like_a_hold_is_none(name: str) -> None:
    assert not is_hold(name)


@table("name", ["cancel", "cancel.txt", "Cancel", "CANCEL.Txt"])
def test_a_person_cancels_a_run_in_any_case(name: str) -> None:
    assert is_cancel(name)


def test_a_marker_names_the_job_that_it_cancels() -> None:
    for marker in markers_of("Castle.yaml"):
        assert cancelled_by(marker) == cancelled_by(marker.upper()) == "castle.yaml"
    for other in ("castle.yaml", "cancel", "cancel.txt", "castle.cancelled", ".cancel"):
        assert cancelled_by(other) == ""


@table(
    ("text", "frees"),
    [
        ("", False),
        ("free: true\n", True),
        ("for games\r\n  Free : TRUE\r\n", True),
        ("free: false", False),
        ("free: true, please", False),
        ("carefree: true", False),
        ("free time", False),
    ],
)
def test_a_hold_frees_the_gpu_where_a_line_says_so(text: str, frees: bool) -> None:
    assert frees_gpu(text) is frees
