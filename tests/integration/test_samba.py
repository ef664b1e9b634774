"""Jobs that come over SMB, to a Samba server with the shares of docs/share.md: what programs of
Windows do with files there, who may do what, and a batch of several hundred.

smbd runs on the monitor's machine, which watches the folder itself; the monitor is the user
`sdwatch`, as the page says.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.as_user import start_as
from tests.support.fakes import picture
from tests.support.helpers import wait_until
from tests.support.monitored import EXTERNAL, Monitored, job, journal, monitored
from tests.support.samba import (
    GROUPS,
    SPOOL,
    USERS,
    Samba,
    block,
    group_of,
    needs_samba,
    open_folder,
    samba,
)

pytestmark = needs_samba
ROOT = Path(__file__).parents[2]
SETTLE = 0.5
SKETCH = "stages:\n  - img2img: {init_images: sketch.png, width: 64, height: 64, steps: 2}\n"


@contextmanager
def a_monitor(umask: str) -> Iterator[Monitored]:
    """One to be, with folders that nobody owns yet; its WebUI is the test's own."""
    with open_folder() as folder:
        settings = {"settle": SETTLE, "umask": umask, "arrival_timeout": 60}
        with monitored(folder / "box", settings=settings, webui=EXTERNAL) as spool:
            command = [sys.executable, "-m", "sdwatch.simulator", "--port", str(spool.port)]
            command += ["--boot-time", "0", "--load-time", "0", "--step-time", "0.005"]
            command += ["--state", str(spool.root / "simulator.json")]
            with open(folder / "webui.log", "wb") as log:
                webui = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
            try:
                yield spool
            finally:
                webui.kill()
                webui.wait()


def owned(path: Path, mode: int) -> None:
    path.mkdir(exist_ok=True)
    os.chown(path, USERS["sdwatch"], GROUPS["sdwatch"][0])
    path.chmod(mode)


@contextmanager
def shared(*, start: bool = True, **changes: str | None) -> Iterator[tuple[Monitored, Samba]]:
    """A monitor that works as `sdwatch` on a spool that is served as docs/share.md has it, but for
    `changes` (see Samba)."""
    with a_monitor("077") as spool:
        for folder in (spool.spool, spool.inbox, spool.state):
            owned(folder, 0o700)
        with samba(spool.root.parent / "samba", spool.spool, **changes) as server:
            if start:
                begin(spool)
            yield spool, server
            if spool.process is not None:
                assert spool.signal(signal.SIGTERM) == 0, spool.monitor_log


def begin(spool: Monitored) -> None:
    start_as(spool, USERS["sdwatch"])
    spool.wait_ready(0)


def waits(spool: Monitored, source: str, why: str) -> None:
    wait_until(lambda: why in spool.status().get("waiting", {}).get(source, ""), 30, why)


def in_the_queue(spool: Monitored, source: str) -> None:
    wait_until(lambda: source in spool.status().get("next", []), 30, f"{source} is queued")


def sources(runs: list[Path]) -> list[str]:
    """Where in the inbox runs came from."""
    return sorted(journal(run, "claimed")[0]["source"] for run in runs)


def refused(action: Callable[[], object]) -> bool:
    """Whether the server denies it, for want of rights."""
    try:
        action()
    except OSError as error:
        text = str(error)
        denied = ("0xc0000022", "0xc00000a2", "0xc00000cc")  # access denied, write-protected
        assert any(word in text for word in denied), text
        return True
    return False


# -- many jobs


def test_dozens_of_jobs_that_artists_drop_at_once_are_each_done_once() -> None:
    with shared() as (spool, server):
        artists = ["ann", "ben", "ann", "ben"]

        def drop(number: int) -> None:
            with server.client(artists[number]) as client:
                for index in range(16):
                    client.write(f"castle {number}-{index}.yaml", job(f"castle {number}-{index}"))

        batch = spool.root.parent / "batch"
        batch.mkdir()
        for index in range(16):
            (batch / f"tower {index}.yaml").write_text(job(f"tower {index}"))
        with ThreadPoolExecutor() as pool:
            dropped = [pool.submit(drop, number) for number in range(len(artists))]
            told = server.smbclient("ann", "inbox", "prompt off; mput *.yaml", batch)
            for each in dropped:
                each.result()
        assert told.count("putting file") == 16
        spool.wait_for(done=80, timeout=240)
        assert len(set(sources(spool.done()))) == 80
        assert spool.stats()["posts"] == 80
        assert spool.waiting() == []


# -- programs that keep files open


def test_a_client_that_keeps_its_file_open_while_it_writes_is_waited_for() -> None:
    """The first half is a job by itself."""
    text = job("a castle", n_iter=2)
    half = text.index("n_iter")
    with shared() as (spool, server), server.client("ann") as client:
        with client.open("castle.yaml", "wb") as file:
            file.write(text[:half].encode())
            waits(spool, "castle.yaml", "another program is still writing castle.yaml")
            spool.two_more_beats()
            assert spool.stats()["posts"] == 0
            file.write(text[half:].encode())
        spool.wait_for(done=1)
        (run,) = spool.done()
        assert (run / "job.yaml").read_text() == text
        assert spool.stats()["posts"] == 2


def test_a_client_that_only_reads_a_job_is_in_nobodys_way() -> None:
    """A viewer, or a virus scanner; it may forbid others all that it likes."""
    with shared(start=False) as (spool, server), server.client("ann") as client:
        client.write("castle.yaml", job())
        with client.open("castle.yaml", "rb", access="r") as file:
            with server.client("ben") as other, pytest.raises(OSError, match="c0000043"):
                other.write("castle.yaml", job("another"))  # a sharing violation
            begin(spool)
            spool.wait_for(done=1)
            assert bytes(file.read()) == job().encode()


def test_a_reader_of_a_run_does_not_keep_it_from_being_published() -> None:
    with shared() as (spool, server), server.client("ann") as client:
        client.write("castle.yaml", job(steps=200))
        run = wait_until(spool.working, 30)[0]
        name = f"{run.relative_to(spool.spool).as_posix()}/journal.jsonl"
        wait_until((run / "journal.jsonl").exists, 30)
        with client.open(name, "rb", "sdwatch", access="r"):
            spool.wait_for(done=1)


def test_a_job_that_is_edited_until_it_is_claimed_runs_as_it_was_saved_last() -> None:
    with shared() as (spool, server), server.client("ann") as client:
        (spool.spool / "hold").touch()
        client.write("castle.yaml", job("first"))
        in_the_queue(spool, "castle.yaml")
        client.write("castle.yaml", job("second, and longer"))
        (spool.spool / "hold").unlink()  # before anybody looked at it again
        spool.wait_for(done=1)
        assert "second" in (spool.done()[0] / "job.yaml").read_text()
        client.write("castle.yaml", job("saved again when it was done"))
        spool.wait_for(done=2)
        assert spool.stats()["posts"] == 2


def test_a_job_can_be_renamed_and_removed_while_it_settles_and_is_gone_once_it_was_claimed() -> (
    None
):
    with shared() as (spool, server), server.client("ann") as client:
        with client.open("removed.yaml", "wb") as file:
            file.write(job("removed").encode())
        client.remove("removed.yaml")
        client.write("New Text Document.yaml", job("renamed"))
        client.rename("New Text Document.yaml", "castle.yaml")
        spool.wait_for(done=1)
        assert sources(spool.done()) == ["castle.yaml"]
        with pytest.raises(OSError, match="c0000034"):  # no such name
            client.remove("castle.yaml")
        spool.two_more_beats()
        assert spool.stats()["posts"] == 1


# -- names


def test_names_are_the_same_in_any_case() -> None:
    with shared(start=False) as (spool, server), server.client("ann") as client:
        client.write("CASTLE.YAML", job("first"))
        client.write("castle.yaml", job("second"))
        assert client.names("", "inbox") == ["CASTLE.YAML"]
        client.make_folder("Sketches")
        client.write("sketches/JOB.yaml", SKETCH)
        client.write("SKETCHES/Sketch.PNG", picture())
        client.write("Tower.yaml", job("not wanted"))
        client.write("tower.YAML.Cancel.txt", b"")
        begin(spool)
        spool.wait_for(done=2, failed=1)
        assert sources(spool.done()) == ["CASTLE.YAML", "Sketches"]
        assert sources(spool.failed()) == ["Tower.yaml"]
        assert spool.waiting() == []
        assert spool.stats()["posts"] == 2


def test_an_operator_holds_everything_and_cancels_a_run_with_names_in_any_case() -> None:
    with shared() as (spool, server), server.client("olga") as client:
        client.write("Hold.TXT", b"", "sdwatch")
        wait_until(lambda: "Hold.TXT" in spool.status().get("hold", ""), 30, "it is held")
        client.write("castle.yaml", job(steps=4000))
        client.remove("hold.txt", "sdwatch")
        (run,) = wait_until(spool.working, 30)
        spool.wait_posts(1)
        client.write(f"{run.relative_to(spool.spool).as_posix()}/Cancel", b"", "sdwatch")
        spool.wait_for(failed=1)


def test_the_mark_of_the_web_stays_a_stream_of_its_job() -> None:
    with shared() as (spool, server), server.client("ann") as client:
        client.write("castle.yaml", job())
        client.write("castle.yaml:Zone.Identifier", "[ZoneTransfer]\r\nZoneId=3\r\n")
        spool.wait_for(done=1)
        assert sources(spool.done()) == ["castle.yaml"]
        assert spool.waiting() == []
        (run,) = client.names("done")
        assert b"ZoneId=3" in client.read(f"done/{run}/job.yaml:Zone.Identifier")


def test_without_streams_the_mark_is_refused_and_what_others_leave_of_it_is_no_job() -> None:
    with shared(vfs_objects=None) as (spool, server), server.client("ann") as client:
        client.write("castle.yaml", job())
        with pytest.raises(OSError, match="c0000033"):  # not a name, says the server
            client.write("castle.yaml:Zone.Identifier", "[ZoneTransfer]\r\nZoneId=3\r\n")
        left = ("castle.yaml:Zone.Identifier", "castle.yaml\uf03aZone.Identifier")
        for name in left:  # by WSL, by a copy from there
            (spool.inbox / name).write_text("[ZoneTransfer]\r\nZoneId=3\r\n")
        spool.wait_for(done=1)
        spool.two_more_beats()
        assert set(spool.waiting()) == set(left)
        assert "Zone" not in spool.monitor_log


def test_what_explorer_office_browsers_and_finder_leave_is_no_job_and_their_copies_are() -> None:
    with shared() as (spool, server), server.client("ann") as client:
        for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "._castle.yaml", "~$castle.yaml"):
            client.write(name, b"\x01\x02")
        client.write("New Text Document.txt", b"")  # Explorer, with extensions shown
        client.rename("New Text Document.txt", "new.yaml")
        waits(spool, "new.yaml", "looks unfinished")
        client.write("new.yaml", job("from a new document"))
        client.write("castle - Copy.yaml", job("a copy"))
        client.write("castle - Copy (2).yaml", job("a second copy"))
        client.write("Unconfirmed 1.crdownload", job("half of a down")[:20])  # a browser
        client.write("Unconfirmed 1.crdownload", job("downloaded"))
        client.rename("Unconfirmed 1.crdownload", "downloaded.yaml")
        client.write("~WRD0001.tmp", job("saved"))  # Office: the new one, then both change names
        client.write("saved.yaml", job("saved before"))
        client.rename("saved.yaml", "~WRL0001.tmp")
        client.rename("~WRD0001.tmp", "saved.yaml")
        client.remove("~WRL0001.tmp")
        jobs = ["castle - Copy (2).yaml", "castle - Copy.yaml", "downloaded.yaml", "new.yaml"]
        spool.wait_for(done=5)
        assert sources(spool.done()) == [*jobs, "saved.yaml"]
        spool.two_more_beats()
        assert spool.failed() == []
        left = {".DS_Store", "._castle.yaml", "Thumbs.db", "desktop.ini", "~$castle.yaml"}
        assert set(spool.waiting()) == left


def test_a_job_folder_that_is_copied_file_by_file_is_one_job() -> None:
    data = picture(size=(512, 512))
    with shared() as (spool, server), server.client("ann") as client:
        client.make_folder("New folder")
        client.rename("New folder", "castle")
        client.write("castle/job.yaml", SKETCH)
        client.write("castle/desktop.ini", b"[.ShellClassInfo]\r\n")
        waits(spool, "castle", "waits for sketch.png")
        with client.open("castle/sketch.png", "wb") as file:
            file.write(data[: len(data) // 2])
            waits(spool, "castle", "another program is still writing sketch.png")
            file.write(data[len(data) // 2 :])
        client.write("castle/Thumbs.db", b"\x00")
        spool.wait_for(done=1)
        assert sources(spool.done()) == ["castle"]
        assert (spool.done()[0] / "job" / "sketch.png").read_bytes() == data
        assert spool.waiting() == []


# -- who may do what


def test_artists_may_write_the_inbox_and_read_the_rest_and_operators_may_write_it_all() -> None:
    with shared() as (spool, server):
        with server.client("ann") as ann:
            ann.write("castle.yaml", job("a castle of ann"))
            ann.write("broken.yaml", job(steps="many"))
            ann.make_folder("ann")
            ann.write("ann/tower.yaml", job("a tower"))
        spool.wait_for(done=2, failed=1, timeout=90)
        with server.client("olga") as olga:
            olga.write("hold", b"", "sdwatch")
        (castle,) = (run.name for run in spool.done() if "castle" in run.name)
        (broken,) = (run.name for run in spool.failed())

        with server.client("ben") as ben:
            assert b"a castle of ann" in ben.read(f"done/{castle}/job.yaml")
            assert b"of ann" in ben.read(f"done/{castle}/run.json")
            assert any(ben.names(f"done/{castle}/images"))
            assert ben.read(f"failed/{broken}/WHY.txt")
            for name in (
                "hold.txt",
                "castle.yaml",
                "inbox/castle.yaml",
                f"done/{castle}/run.json",
                f"done/{castle}/job.yaml",
                f"failed/{broken}/cancel",
                "working/cancel",
                "config.yaml",
            ):
                assert refused(lambda name=name: ben.write(name, b"x", "sdwatch")), name  # type: ignore[misc]
            assert refused(lambda: ben.remove("hold", "sdwatch"))
            assert refused(lambda: ben.remove(f"done/{castle}/job.yaml", "sdwatch"))
            assert refused(lambda: ben.rename("done", "done2", "sdwatch"))
            assert refused(lambda: ben.make_folder("mine", "sdwatch"))

            ben.write("waiting.yaml", job("of ben"))
            in_the_queue(spool, "waiting.yaml")
            ben.write("waiting.yaml.cancel", b"")
            spool.wait_for(done=2, failed=2)
            ben.write("removed.yaml", job("of ben"))
            ben.remove("removed.yaml")

        for share in ("inbox", "sdwatch"):
            with server.client("eve") as eve:
                assert refused(lambda share=share, eve=eve: eve.names("", share)), share  # type: ignore[misc]

        with server.client("olga") as olga:
            olga.rename(f"done/{castle}/job.yaml", "inbox/again.yaml", "sdwatch")
            olga.remove("hold", "sdwatch")
            spool.wait_for(done=3, failed=2)


def test_nobody_else_on_the_server_can_look_into_the_spool() -> None:
    with shared() as (spool, server), server.client("ann") as client:
        client.write("castle.yaml", job())
        spool.wait_for(done=1)
        for path in (spool.spool, spool.state, *spool.spool.rglob("*"), *spool.state.rglob("*")):
            if path.name not in ("castle.yaml", "job.yaml"):
                with suppress(FileNotFoundError):  # the heartbeat is replaced meanwhile
                    assert path.stat().st_mode & 0o007 == 0, path
                    assert path.stat().st_uid == USERS["sdwatch"], path
        assert as_user("ben", f"ls {spool.spool}").returncode != 0


# -- users of the server itself


def as_user(name: str, script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script as one of the users, on the server."""
    return subprocess.run(
        ["sh", "-c", script],
        user=USERS[name],
        group=group_of(name),
        extra_groups=[],
        cwd="/",
        umask=0o022,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def for_local_users() -> Iterator[Monitored]:
    """A spool with the rights that docs/share.md gives it for users of the server itself."""
    with a_monitor("027") as spool:
        spool.inbox.rmdir()
        spool.spool.rmdir()
        script = block("sh").replace(SPOOL, str(spool.spool))
        for name, uid in USERS.items():
            script = script.replace(f"-o {name} ", f"-o {uid} ").replace(f"u:{name}:", f"u:{uid}:")
        for name, (gid, _) in GROUPS.items():
            script = script.replace(f"-g {name} ", f"-g {gid} ").replace(f"g:{name}:", f"g:{gid}:")
        done = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        owned(spool.state, 0o700)
        begin(spool)
        yield spool
        assert spool.signal(signal.SIGTERM) == 0, spool.monitor_log


def test_users_of_the_server_may_write_the_inbox_and_read_the_rest() -> None:
    with for_local_users() as spool:
        inbox = spool.inbox
        source = spool.root.parent / "sketch.png"
        source.write_bytes(picture())
        source.chmod(0o644)
        drop = f"""
            echo 'prompt: "a castle"' > {inbox}/castle.yaml
            mkdir {inbox}/sketch && cp {source} {inbox}/sketch/ && cat > {inbox}/sketch/job.yaml <<X
{SKETCH}X
        """
        assert as_user("ann", drop).returncode == 0
        spool.wait_for(done=2)
        castle = next(run for run in spool.done() if "castle" in run.name)
        assert (castle / "job.yaml").stat().st_uid == USERS["ann"]

        assert (
            as_user("ben", f"cat {castle}/run.json {castle}/images/* > /dev/null").returncode == 0
        )
        for script in (
            f"touch {spool.spool}/hold",
            f"touch {castle}/cancel",
            f"echo x > {castle}/run.json",
            f"rm {castle}/job.yaml",
            f"mv {castle} {inbox}/again",
            f"touch {spool.spool}/working/*/cancel",
            f"mv {inbox} {spool.spool}/other",
        ):
            assert as_user("ben", script).returncode != 0, script
        for script in (f"ls {spool.spool}", f"ls {inbox}", f"touch {inbox}/eve.yaml"):
            assert as_user("eve", script).returncode != 0, script


def test_a_sub_folder_that_keeps_its_own_modes_is_named_and_runs_once_they_are_right() -> None:
    with for_local_users() as spool:
        folder = spool.inbox / "copied"
        made = f"""
            mkdir {folder} && echo 'prompt: "a castle"' > {folder}/job.yaml && chmod 755 {folder}
        """
        assert as_user("ann", made).returncode == 0
        waits(spool, "copied", "cannot be claimed")
        assert as_user("ann", f"chmod -R g+rwX {folder}").returncode == 0
        spool.wait_for(done=1)
