"""Files at the broker that are gone, damaged, or named by somebody who wants harm."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from sdwatch.cluster.broker import Broker
from sdwatch.cluster.objects import MissingObjectError
from sdwatch.cluster.run_files import write_file
from sdwatch.policy.cluster.entries import BoxEnd, Ended, Granted, StoredFile, files_to_bytes
from sdwatch.policy.cluster.names import FILES, Times, object_subject, objects_of
from tests.cluster.machines import Cluster, cluster, shown
from tests.cluster.test_cluster import FIVE, check_once, first_image
from tests.support.helpers import wait_until

__all__ = ["cluster"]

RUN = "20261128-235959.123-castle-3f2a"


@pytest.fixture
def broker(cluster: Cluster) -> Iterator[Broker]:
    made = Broker(cluster.url, "test", Times())
    made.open()
    try:
        wait_until(lambda: made.is_up, 60)
        yield made
    finally:
        made.close()


def damage(broker: Broker, subject: str) -> None:
    """Change a byte of a part that is stored."""
    part = broker.ask(lambda js: js.get_msg(FILES, subject=subject))
    data = (part.data or b"")[:-1] + bytes([(part.data or b"\0")[-1] ^ 1])
    broker.ask(lambda js: js.purge_stream(FILES, subject=subject))
    broker.ask(lambda js: js.publish(subject, data, stream=FILES, headers=part.headers))


@pytest.mark.parametrize("size", [1000, (9 << 20) + 5])
def test_a_damaged_part_is_noticed_and_replaced(broker: Broker, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + b"end"
    digest = broker.objects.store(RUN, data)
    last = len(data) // (4 << 20)
    for remove in (False, True):
        subject = object_subject(RUN, digest, last)
        if remove:
            broker.ask(lambda js, subject=subject: js.purge_stream(FILES, subject=subject))  # type: ignore[misc]
        else:
            damage(broker, subject)
        with pytest.raises(MissingObjectError):
            broker.objects.read(RUN, digest)
        assert broker.objects.store(RUN, data) == digest
        assert broker.objects.read(RUN, digest) == data


def test_an_image_of_the_same_name_and_size_is_replaced(broker: Broker, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").write_bytes(b"of another box")
    stored = StoredFile("images/1.png", broker.objects.store(RUN, b"of this one..."), 14)
    write_file(broker, RUN, stored, tmp_path)
    assert (tmp_path / "images" / "1.png").read_bytes() == b"of this one..."


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("job.yaml", BoxEnd.GIVEN_BACK),
        ("../../outside.txt", BoxEnd.REFUSED),
        ("/tmp/outside.txt", BoxEnd.REFUSED),
    ],
)
def test_a_box_gives_back_what_it_cannot_fetch(
    cluster: Cluster, broker: Broker, name: str, outcome: BoxEnd
) -> None:
    with shown(cluster):
        box = cluster.machine("a", "box")
        wait_until(lambda: box.name and box.site.lane().get("state") == "ready", 60)
        missing = StoredFile(name, "0" * 64, 5)
        manifest = broker.objects.store(RUN, files_to_bytes([missing]))
        broker.append(RUN, Granted(1, box.name, manifest), 0)
        broker.offer(box.name, RUN, 1)

        def ended() -> Ended | None:
            entries = [entry for _, entry in broker.entries_after(RUN, 0)]
            return next((e for e in entries if isinstance(e, Ended)), None)

        assert wait_until(ended, 60).outcome is outcome
        working = box.site.spool / "working" / box.name
        wait_until(lambda: not (box.site.state / "cluster" / RUN).exists(), 30)
        assert not list(working.glob("*3f2a*"))
        assert not list(box.site.root.parent.glob("**/outside.txt"))


def test_an_image_that_is_damaged_at_the_broker_is_not_published(
    cluster: Cluster, broker: Broker
) -> None:
    with shown(cluster):
        dispatcher = cluster.machine("dispatcher", "dispatcher")
        box = cluster.machine("a", "box", flags=("--step-time", "0.3"))
        (dispatcher.site.inbox / "castle.yaml").write_text(FIVE)
        run = first_image(dispatcher)
        dispatcher.kill()
        copy = wait_until(lambda: box.runs("done"), 60, "the box goes on")[0]
        last = max(copy.glob("images/*_5*.png"), default=None) or max(copy.glob("images/*.png"))
        subject = object_subject(run.name, sha256(last.read_bytes()).hexdigest(), 0)

        def is_stored() -> bool:
            info = broker.ask(
                lambda js: js.stream_info(FILES, subjects_filter=objects_of(run.name))
            )
            return subject in (info.state.subjects or {})

        wait_until(is_stored, 60)
        damage(broker, subject)
        dispatcher.start()
        published = check_once(dispatcher)
        for line in map(json.loads, (published / "journal.jsonl").read_text().splitlines()):
            for image in line.get("images", ()) if line["event"] == "call_finished" else ():
                data = (published / "images" / image["name"]).read_bytes()
                assert sha256(data).hexdigest() == image["sha256"]
