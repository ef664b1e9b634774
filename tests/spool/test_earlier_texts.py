"""What the newest runs were to draw is learned, the newest last."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sdwatch.spool.archive import Spool
from sdwatch.spool.earlier_texts import learn_earlier_texts


def ended(parent: Path, number: int, manifest: object) -> None:
    folder = parent / f"20261125-0000{number:02}.000-castle-abcd"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(manifest))


def test_the_newest_are_learned_last_and_the_oldest_of_very_many_not_at_all(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "me")
    for number in range(60):
        where = spool.done if number % 2 else spool.failed
        ended(where, number, {"job": {"stages": [{"txt2img": {"prompt": f"castle {number}"}}]}})
    learned: list[Any] = []
    learn_earlier_texts(spool, learned.append)
    assert [stage["txt2img"]["prompt"] for stage in learned] == [
        f"castle {number}" for number in range(10, 60)
    ]


def test_what_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "me")
    for number, manifest in enumerate(
        (5, {"job": 5}, {"job": {"stages": 5}}, {"job": {"stages": [5]}})
    ):
        ended(spool.done, number, manifest)
    (spool.done / "20261125-000099.000-x-abcd").mkdir()
    learned: list[Any] = []
    learn_earlier_texts(spool, learned.append)
    assert learned == []
