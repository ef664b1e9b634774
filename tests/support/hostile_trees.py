"""Inboxes that somebody fills who means harm, made by seed: links, junctions, pipes, odd names.

Each is scanned and claimed through the real code, while things change under it. Outside of the
spool lie files with known bytes; what must be true of them and of the jobs is in `judge_tree`. On
Windows a junction is one; elsewhere a folder, and the system is made to say that it leads elsewhere
(see `junctions`). What a system does not have, or does not permit, is left out of its trees.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import socket
import stat
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from typing import TypeAlias

from PIL import Image

from sdwatch import system
from sdwatch.errors import JobError, SpoolError
from sdwatch.policy.job.job import Job
from sdwatch.spool import archive, back_to_inbox
from sdwatch.spool.arrival import Arrival
from sdwatch.spool.fingerprint import DEEPEST
from sdwatch.spool.folders import Spool
from sdwatch.spool.inbox import Inbox
from sdwatch.spool.run import Run
from sdwatch.system import EntryKind, failpoints
from sdwatch.system.failpoints import Failpoint
from sdwatch.system.links import FileIdentity
from tests.support.helpers import FakeClock
from tests.support.stage_images import images_named

CANARY = b"canary-5e1f0b"
"""In every file outside of the spool, and in every file behind a junction."""

_SETTLE, _ARRIVAL, _UNFINISHED = 2.0, 60.0, 30.0
_LONG_AGO = 1_000_000_000 * 10**9  # an access time that the next reading moves
_SKETCH = "stages:\n- img2img: {prompt: a castle, init_images: parts/sketch.png}\n"

# In the middle of names. None makes a name that the inbox leaves alone.
_ODD = (
    "", "", "", " two words ", "UPPER", "%41", "'\"`$(id)", "--help", "e\u0301", "\u202egpj", "🏰",
    "n" * 200, ";rm -rf", "[1]", "{a}",
)  # fmt: skip
_NOT_UTF_8 = (b"caf\xe9", b"\xff\xfe", b"\xed\xa0\x80")
_ODD_ON_POSIX = (
    "\n", "\r\n", "\t", "\x1b[2J", "\x07", "\x7f", "\\", "a\\..\\b", "|", "<>", "*?",
    *(each.decode("utf-8", "surrogateescape") for each in _NOT_UTF_8),
)  # fmt: skip
_ODD_HERE = _ODD + _ODD_ON_POSIX if os.name == "posix" else tuple(x for x in _ODD if '"' not in x)


Piece: TypeAlias = Callable[["Tree", Path], None]


@dataclass(frozen=True)
class Answer:
    """What became of one tree: `found` jobs that were ready, `claimed` ones, `refused` ones, and
    how many things were `swapped` meanwhile."""

    found: int
    claimed: int
    refused: int
    swapped: int


@dataclass
class Tree:
    """A spool below `root`, and the folder `outside` beside it."""

    root: Path
    rng: Random
    plain: set[str] = field(default_factory=set)
    """Sources of jobs that must be found, and claimed."""
    never: set[str] = field(default_factory=set)
    """Sources that must never be a job that can be done."""
    junctions: set[FileIdentity] = field(default_factory=set)
    loose: list[Path] = field(default_factory=list)
    """What may be exchanged for something else while the inbox is looked at."""
    count: int = 0
    swapped: int = 0

    def __post_init__(self) -> None:
        self.outside = self.root / "outside"
        self.spool = Spool(self.root / "spool", "box-1")

    @property
    def inbox(self) -> Path:
        return self.spool.inbox

    def name(self, ending: str = "") -> str:
        """A name that no other has here."""
        self.count += 1
        odd = self.rng.choice(_ODD_HERE)
        return f"a{self.count}{odd}z{ending}"

    def source(self, path: Path) -> str:
        return path.relative_to(self.inbox).as_posix()

    def expect(self, path: Path) -> None:
        """A plain job, found wherever it lies, unless that is too deep."""
        if len(path.relative_to(self.inbox).parts) - 1 <= DEEPEST:
            self.plain.add(self.source(path))


def make_tree(seed: int, number: int, root: Path) -> Tree:
    """Tree `number` of those that `seed` makes, in the empty folder `root`."""
    tree = Tree(root, Random(f"{seed}.{number}"))
    tree.spool.prepare()
    _make_outside(tree)
    folders = [tree.inbox]
    for _ in range(tree.rng.randint(0, 5)):
        folder = tree.rng.choice(folders) / tree.name()
        folder.mkdir()
        folders.append(folder)
    for _ in range(tree.rng.randint(4, 16)):
        with suppress(*_CANNOT):
            tree.rng.choice(PIECES)(tree, tree.rng.choice(folders))
    return tree


class _NotHereError(Exception):
    """This system, or this user, cannot make it."""


_CANNOT = (
    NotImplementedError,
    AttributeError,
    _NotHereError,
    *((OSError,) if os.name == "nt" else ()),  # no right to make links, or none on this disk
)


def _make_outside(tree: Tree) -> None:
    """Files of somebody else, jobs and pictures among them."""
    for folder in (tree.outside, tree.outside / "job", tree.outside / "job" / "parts"):
        _fill_with_canaries(folder)
    for base, folders, files in os.walk(tree.outside):
        for name in (*folders, *files):
            os.utime(Path(base, name), ns=(_LONG_AGO, _LONG_AGO + 10**15))
    os.utime(tree.outside, ns=(_LONG_AGO, _LONG_AGO + 10**15))


def _fill_with_canaries(folder: Path) -> None:
    folder.mkdir()
    (folder / "canary.yaml").write_bytes(b"prompt: " + CANARY + b"\n")
    (folder / "job.yaml").write_bytes(b"prompt: " + CANARY + b"\n")
    (folder / "sketch.png").write_bytes(_picture(canary=True))
    for marker in ("cancel", "canary.yaml.cancel"):
        (folder / marker).write_bytes(CANARY)


@cache
def _picture(canary: bool = False) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (16, 8), (9, 9, 9)).save(data, "PNG")
    # Behind the first chunk, where a picture that is whole may have any text.
    begin, end = data.getvalue()[:-12], data.getvalue()[-12:]
    return begin + (_text_chunk() if canary else b"") + end


def _text_chunk() -> bytes:
    data = b"tEXt" + b"a\0" + CANARY
    return (len(data) - 4).to_bytes(4) + data + zlib.crc32(data).to_bytes(4)


# -- what an inbox may have in it: each is put into a folder


def _plain_file(tree: Tree, folder: Path) -> None:
    path = folder / tree.name(tree.rng.choice((".yaml", ".yml", ".YAML", ".Yml")))
    path.write_text("prompt: a castle\n")
    tree.expect(path)


def _plain_folder(tree: Tree, folder: Path) -> None:
    path = _job_folder(tree, folder)
    tree.expect(path)


def _job_folder(tree: Tree, folder: Path, name: str = "job.yaml") -> Path:
    path = folder / tree.name()
    (path / "parts").mkdir(parents=True)
    (path / name).write_text(_SKETCH)
    (path / "parts" / "sketch.png").write_bytes(_picture())
    return path


def _case_variants(tree: Tree, folder: Path) -> None:
    """On most systems of Windows and macOS the second of them is the first."""
    name = tree.name()
    for variant in (name.upper() + ".yaml", name.lower() + ".YAML"):
        (folder / variant).write_text("prompt: a castle\n")
    for entry in os.scandir(folder):
        if entry.name.lower() == f"{name}.yaml".lower():
            tree.expect(folder / entry.name)


def _two_job_files(tree: Tree, folder: Path) -> None:
    path = _job_folder(tree, folder)
    (path / "JOB.YML").symlink_to(tree.outside / "canary.yaml")
    (path / "Job.json").write_text("{}")
    tree.expect(path)


def _hard_link(tree: Tree, folder: Path) -> None:
    """Of a file outside, which is a plain file like any other; it must not be changed."""
    original = tree.root / f"linked-{tree.count}.yaml"
    original.write_text("prompt: a castle\n")
    path = folder / tree.name(".yaml")
    os.link(original, path)
    tree.expect(path)


def _hard_linked_image(tree: Tree, folder: Path) -> None:
    original = tree.root / f"linked-{tree.count}.png"
    original.write_bytes(_picture())
    path = _job_folder(tree, folder)
    (path / "parts" / "sketch.png").unlink()
    os.link(original, path / "parts" / "sketch.png")
    tree.expect(path)


def _target(tree: Tree, own: Path) -> Path | str:
    """Where a link at `own` may lead."""
    return tree.rng.choice(
        (
            tree.outside / "canary.yaml",
            tree.outside / "job",
            tree.outside,
            os.path.relpath(tree.outside / "canary.yaml", own.parent),
            os.path.relpath(tree.outside / "job", own.parent),
            tree.outside / "sketch.png",
            "nothing-there",
            own.name,
            ".",
            "..",
            tree.inbox,
            tree.spool.root,
            "/dev/zero",
            "/dev/full",
            "/proc/self/root",
            f"/proc/self/cwd/{own.name}",
        )
    )


def _link(tree: Tree, folder: Path) -> None:
    path = folder / tree.name(tree.rng.choice((".yaml", ".json", "", ".png", ".txt")))
    path.symlink_to(_target(tree, path))
    tree.never.add(tree.source(path))


def _loop(tree: Tree, folder: Path) -> None:
    one, other = folder / tree.name(".yaml"), folder / tree.name(".yaml")
    one.symlink_to(other.name)
    other.symlink_to(one.name)
    tree.never |= {tree.source(one), tree.source(other)}


def _job_file_is_a_link(tree: Tree, folder: Path) -> None:
    """Then it is no job folder; what is plain in it is a job of its own."""
    path = folder / tree.name()
    path.mkdir()
    name = tree.rng.choice(("job.yaml", "JOB.YAML", "job.json"))
    (path / name).symlink_to(_target(tree, path / name))
    (path / "other.yaml").write_text("prompt: a castle\n")
    tree.expect(path / "other.yaml")
    tree.never |= {tree.source(path), tree.source(path / name)}


def _image_is_something_else(tree: Tree, folder: Path) -> None:
    """A link, a pipe, a socket, a device, a folder."""
    path = _job_folder(tree, folder)
    image = path / "parts" / "sketch.png"
    image.unlink()
    tree.never.add(tree.source(path))
    tree.rng.choice((_put_link, _put_pipe, _put_socket, _put_device, _put_folder))(tree, image)


def _image_is_behind_a_link(tree: Tree, folder: Path) -> None:
    path = _job_folder(tree, folder)
    shutil.rmtree(path / "parts")
    (path / "parts").symlink_to(
        tree.rng.choice((tree.outside, tree.outside / "job", Path("../parts")))
    )
    tree.never.add(tree.source(path))


def _image_is_a_link_within(tree: Tree, folder: Path) -> None:
    path = _job_folder(tree, folder)
    (path / "parts" / "sketch.png").rename(path / "own.png")
    (path / "parts" / "sketch.png").symlink_to("../own.png")
    tree.never.add(tree.source(path))


def _job_is_something_else(tree: Tree, folder: Path) -> None:
    path = folder / tree.name(".yaml")
    tree.never.add(tree.source(path))
    tree.rng.choice((_put_pipe, _put_socket, _put_device, _put_folder))(tree, path)


def _job_file_is_something_else(tree: Tree, folder: Path) -> None:
    path = folder / tree.name()
    path.mkdir()
    tree.never.add(tree.source(path))
    tree.rng.choice((_put_pipe, _put_socket, _put_device, _put_folder))(tree, path / "job.yaml")


def _folder_with_a_jobs_name(tree: Tree, folder: Path) -> None:
    path = folder / tree.name(".yaml")
    path.mkdir()
    (path / path.name).write_text("prompt: a castle\n")
    tree.expect(path / path.name)


def _junction(tree: Tree, folder: Path) -> None:
    """In place of a folder of jobs, of a job folder, or of one with images."""
    path = folder / tree.name()
    which = tree.rng.choice(("folder", "job folder", "images"))
    if which == "images":
        path = _job_folder(tree, folder)
        shutil.rmtree(path / "parts")
        _put_junction(tree, path / "parts", tree.outside)
    else:
        _put_junction(tree, path, tree.outside / ("job" if which == "job folder" else "job/parts"))
    tree.never |= {tree.source(path), *(f"{tree.source(path)}/{n}" for n in ("job.yaml",))}


def _deep(tree: Tree, folder: Path) -> None:
    within = _job_folder(tree, folder) if tree.rng.random() < 0.3 else None
    path = within or folder
    for _ in range(tree.rng.choice((5, DEEPEST - 1, DEEPEST, DEEPEST + 1, 50))):
        path = path / "d"
        path.mkdir(exist_ok=True)
    if within is None:
        path = path / tree.name(".yaml")
        path.write_text("prompt: a castle\n")
        tree.expect(path)
    elif len(path.relative_to(within).parts) > DEEPEST:
        tree.never.add(tree.source(within))
    else:
        tree.expect(within)


def _marker_is_a_link(tree: Tree, folder: Path) -> None:
    """A job that somebody cancels, with a link."""
    path = folder / tree.name(".yaml")
    path.write_text("prompt: a castle\n")
    path.with_name(f"{path.name}.cancel").symlink_to(tree.outside / "cancel")
    tree.expect(path)


def _loose_file(tree: Tree, folder: Path) -> None:
    path = folder / tree.name(".yaml")
    path.write_text("prompt: a castle\n")
    tree.loose.append(path)


def _loose_folder(tree: Tree, folder: Path) -> None:
    path = _job_folder(tree, folder)
    tree.loose += [path, path / "job.yaml", path / "parts", path / "parts" / "sketch.png"]


def _loose_parent(tree: Tree, folder: Path) -> None:
    path = folder / tree.name()
    path.mkdir()
    (path / "canary.yaml").write_text("prompt: a castle\n")
    _job_folder(tree, path)
    tree.loose += [path, path]


# -- what is put in the place of something


def _put_link(tree: Tree, path: Path) -> None:
    path.symlink_to(_target(tree, path))


def _put_link_to_alike(tree: Tree, path: Path) -> None:
    """What is there looks like what was here."""
    path.symlink_to(tree.outside / ("canary.yaml" if path.suffix else "job"))


def _put_pipe(_: Tree, path: Path) -> None:
    os.mkfifo(path)


def _put_socket(_: Tree, path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made, chdir(path.parent):
        made.bind("s")  # the names of sockets must be short
        Path("s").rename(path.name)


def _put_device(_: Tree, path: Path) -> None:
    """/dev/null, /dev/zero: endless."""
    number = os.makedev(1, 5)
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, number)
    except PermissionError as error:
        raise _NotHereError from error


def _put_folder(_: Tree, path: Path) -> None:
    path.mkdir()


def _put_file(_: Tree, path: Path) -> None:
    path.write_text("prompt: a castle\n")


def _put_junction(tree: Tree, path: Path, target: Path) -> None:
    if sys.platform == "win32":
        import _winapi

        _winapi.CreateJunction(str(target), str(path))
        return
    _fill_with_canaries(path)  # what would be seen through it
    status = path.lstat()
    tree.junctions.add((status.st_dev, status.st_ino))


def _put_junction_to_a_job(tree: Tree, path: Path) -> None:
    _put_junction(tree, path, tree.outside / "job")


_PUTS = (
    _put_link, _put_link, _put_link_to_alike, _put_link_to_alike,
    _put_pipe, _put_socket, _put_device, _put_folder, _put_file,
    _put_junction_to_a_job,
)  # fmt: skip

PIECES: tuple[Piece, ...] = (
    _plain_file, _plain_file, _plain_folder, _plain_folder, _case_variants, _two_job_files,
    _hard_link, _hard_linked_image, _link, _link, _link, _loop, _job_file_is_a_link,
    _image_is_something_else, _image_is_behind_a_link, _image_is_a_link_within,
    _job_is_something_else, _job_file_is_something_else, _folder_with_a_jobs_name, _junction, _deep,
    _marker_is_a_link, _loose_file, _loose_folder, _loose_folder, _loose_parent, _loose_parent,
)  # fmt: skip


def swap_one(tree: Tree) -> None:
    """Exchange something that lies loose for something else."""
    tree.rng.shuffle(tree.loose)
    while tree.loose:
        path = tree.loose.pop()
        if any(above.is_symlink() for above in path.parents):
            continue  # what it lay in is a link by now: this would reach outside itself
        with suppress(OSError, NotImplementedError, AttributeError, _NotHereError):
            if tree.rng.random() < 0.5 and path.is_dir():
                shutil.rmtree(path)
            else:
                path.rename(tree.root / f"away-{tree.swapped}")
            tree.swapped += 1
            tree.rng.choice(_PUTS)(tree, path)
            return


@contextmanager
def junctions(known: set[FileIdentity]) -> Iterator[None]:
    """Let the system say of these folders what Windows says of a junction: that it leads elsewhere;
    and whoever walks through one is refused there, by name. Nothing to do on Windows."""
    if sys.platform == "win32":
        yield
        return
    from sdwatch.system import posix_files as posix

    real_link, real_kind, real_holding = posix.is_link, posix._kind_of, posix.holding

    def is_junction(status: os.stat_result) -> bool:
        return (status.st_dev, status.st_ino) in known

    def is_link(status: os.stat_result) -> bool:
        return real_link(status) or is_junction(status)

    def kind_of(entry: os.DirEntry[str]) -> EntryKind:
        junction = is_junction(entry.stat(follow_symlinks=False))
        return EntryKind.LINK if junction else real_kind(entry)

    @contextmanager
    def holding(root: Path, parts: list[str]) -> Iterator[int | None]:
        for count in range(1, len(parts) + 1):
            path = root.joinpath(*parts[:count])
            with suppress(FileNotFoundError, NotADirectoryError):
                if is_junction(path.lstat()):
                    raise OSError(errno.ELOOP, "a junction", str(path))
        with real_holding(root, parts) as held:
            yield held

    changes = {"is_link": is_link, "_kind_of": kind_of, "holding": holding}
    before = [(where, n, getattr(where, n)) for where in (posix, system) for n in changes
              if hasattr(where, n)]  # fmt: skip
    for where, name, _ in before:
        setattr(where, name, changes[name])
    try:
        yield
    finally:
        for where, name, real in before:
            setattr(where, name, real)


# -- the judge


def judge_tree(seed: int, number: int, root: Path) -> Answer:
    """Scan and claim tree `number`, made in the empty folder `root`, and take back and publish
    what was claimed. Raises AssertionError where something outside of the spool was read, moved or
    changed, a plain job was not found, or what is none was one; and whatever the code lets out."""
    tree = make_tree(seed, number, root.resolve())
    before = _seen_outside(tree)
    with junctions(tree.junctions):
        answer = _scan_and_claim(tree)
    after = _seen_outside(tree)
    assert after == before, f"outside: {sorted(set(before.items()) ^ set(after.items()))[:4]}"
    _check_no_canary(tree)
    return answer


def _scan_and_claim(tree: Tree) -> Answer:
    clock = FakeClock()
    inbox = Inbox(tree.inbox, _SETTLE, _ARRIVAL, clock, _UNFINISHED)
    inbox.scan()
    for wait in (_SETTLE, _ARRIVAL):
        if tree.rng.random() < 0.5:
            swap_one(tree)
        clock.advance(wait)
        arrivals = inbox.scan()
    for arrival in arrivals:
        _check_arrival(tree, arrival)
    missed = tree.plain - {a.source for a in arrivals if isinstance(a.job, Job)}
    assert not missed, f"not found: {sorted(map(ascii, missed))}"
    assert all(ascii(text) for text in (*dict(inbox.reasons()), *inbox.ignored))
    claimed = [source for arrival in arrivals if (source := _claim(tree, arrival, clock))]
    missed = tree.plain - set(claimed)
    assert not missed, f"not claimed: {sorted(map(ascii, missed))}"
    refused = sum(isinstance(arrival.job, JobError) for arrival in arrivals)
    return Answer(len(arrivals), len(claimed), refused, tree.swapped)


def _check_arrival(tree: Tree, arrival: Arrival) -> None:
    assert CANARY.decode() not in repr(arrival.job), f"read: {arrival.source!a}"
    if isinstance(arrival.job, Job):
        assert arrival.source not in tree.never, f"a job: {arrival.source!a}"


def _claim(tree: Tree, arrival: Arrival, clock: FakeClock) -> str:
    """Claim and publish one; its source, or '' where that was not to be. What lies loose may be
    exchanged at any effect of it."""
    when = tree.rng.randint(1, 12) if tree.rng.random() < 0.5 else 0
    effects = iter(range(1, 1_000))

    def before(_: Failpoint) -> None:
        if next(effects) == when:
            swap_one(tree)

    with _at_each_effect(before):
        try:
            run = archive.claim(arrival, tree.spool, clock)
        except OSError:
            assert tree.swapped, f"cannot be claimed: {arrival.source!a}"
            return ""
    if run is None:
        assert tree.swapped, f"gone: {arrival.source!a}"
        return ""
    _read(run)
    archive.publish(run, tree.spool, "done", None)
    if tree.rng.random() < 0.5:
        if tree.rng.random() < 0.5:
            swap_one(tree)
        with suppress(SpoolError, OSError):
            back_to_inbox.retry(tree.spool.done / run.run_id, tree.inbox)
    return arrival.source


@contextmanager
def _at_each_effect(before: Callable[[Failpoint], None]) -> Iterator[None]:
    original, failpoints.before = failpoints.before, before
    try:
        yield
    finally:
        failpoints.before = original


def _read(run: Run) -> None:
    """As a run does that makes calls of it."""
    try:
        job = run.read_job()
    except (JobError, OSError) as refused:
        said = str(refused)
        job = None
    else:
        said = repr(job)
    assert CANARY.decode() not in said, f"read: {run.source!a}"
    for name in {name for stage in (job.stages if job else ()) for name in images_named(stage)}:
        with suppress(SpoolError, OSError):
            assert CANARY not in run.read_image(name, own=True), f"an image: {run.source!a}"


def _seen_outside(tree: Tree) -> dict[str, tuple[object, ...]]:
    """What lies outside, and when it was last read and written; nothing of it is read for that, for
    the next look would see that."""
    found: dict[str, tuple[object, ...]] = {}
    pending = [tree.outside]
    while pending:
        folder = pending.pop()
        read = folder.stat().st_atime_ns
        for entry in os.scandir(folder):
            status = entry.stat(follow_symlinks=False)
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                pending.append(path)
            else:
                kept = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_atime_ns)
                found[str(path.relative_to(tree.root))] = kept
        status = folder.stat()
        os.utime(folder, ns=(read, status.st_mtime_ns))  # our own listing does not count
        found[f"{folder.relative_to(tree.root)}/"] = (status.st_ino, status.st_mtime_ns, read)
    return found


def _check_no_canary(tree: Tree) -> None:
    """Nothing of what lies outside, or behind a junction, has come into the spool; what lay outside
    has its bytes."""
    for base, folders, files in os.walk(tree.spool.root):
        identities = {name: Path(base, name).lstat() for name in folders}
        folders[:] = [
            name
            for name, status in identities.items()
            if (status.st_dev, status.st_ino) not in tree.junctions
        ]
        for path in (Path(base, name) for name in files):
            if stat.S_ISREG(path.lstat().st_mode):
                assert CANARY not in path.read_bytes(), f"copied to {str(path)!a}"
    for original in tree.root.glob("linked-*"):
        expected = b"prompt: a castle\n" if original.suffix == ".yaml" else _picture()
        found = original.read_bytes()
        if original.suffix == ".yaml":
            found = found.replace(b"\r\n", b"\n")  # as Windows writes a text
        assert found == expected, f"{original.name} was written to"
    for path in tree.outside.rglob("*"):
        assert path.is_dir() or CANARY in path.read_bytes(), f"{path.name} was written to"


def listing_of(tree: Tree) -> bytes:
    """A tree as text, for people: what lies where."""
    lines = []
    for path in sorted(tree.root.rglob("*")):
        leads = f" -> {path.readlink()}" if path.is_symlink() else ""
        lines.append(ascii(f"{stat.filemode(path.lstat().st_mode)} {path}{leads}"))
    return "\n".join(lines).encode()
