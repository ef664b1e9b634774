"""The last lines of an output, whatever state its file or process is in."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdwatch import system
from sdwatch.errors import WebUIReplyError
from sdwatch.known_signatures import builtin_signatures
from sdwatch.policy.failure.diagnosis import diagnose
from sdwatch.policy.failure.error_lines import lines_that_matter
from sdwatch.policy.failure.facts import FailureFacts
from sdwatch.policy.failure.reply_checks import BadReply, Picture, ReplyContents, findings
from sdwatch.webui.http.checked_reply import ReplyChecks
from sdwatch.webui.log.follower import LogFollower
from sdwatch.webui.log.tail_capture import cap_file, capture_tail, tail_text
from tests.support.examples import examples
from tests.support.helpers import wait_until

PROBE = (
    'INFO:     127.0.0.1:54878 - "GET /sdapi/v1/progress?skip_current_image=true HTTP/1.1" 200 OK\n'
)
TRACEBACK = (
    "*** Error completing request\n"
    "    Traceback (most recent call last):\n"
    '      File "modules/txt2img.py", line 110, in txt2img\n'
    "        processed = process_images(p)\n"
    "    RuntimeError: boom 42\n"
    "---\n"
)
FORGE_BARS = (
    "\r  0%|          | 0/8 [00:00<?, ?it/s]" + PROBE + "\n"
    "\rTotal progress:   0%|          | 0/8 [00:00<?, ?it/s]\x1b[A\r 12%|█▎        | 1/8 "
    "[00:02<00:20,  2.92s/it]" + PROBE + "\n"
    "\rTotal progress:  25%|██▌       | 2/8 [00:00<00:02,  2.02it/s]\x1b[A\r 25%|██▌       | 2/8 "
    "[00:03<00:10,  1.79s/it]"
)


SAME = "(no output: it goes to the same file as stdout)"


def apart(number: int) -> str:
    """A number in letters: lines that differ in digits only are shown as one."""
    return str(number).translate(str.maketrans("0123456789", "abcdefghij"))


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "webui.log"


# --- tail_text -------------------------------------------------------------------------------


def test_the_last_lines_keep_their_order(log: Path) -> None:
    write(log, "".join(f"line {apart(n)}\n" for n in range(1000)))
    assert tail_text(log, 3) == "line jjh\nline jji\nline jjj"


def test_a_last_line_without_an_end_is_shown(log: Path) -> None:
    assert tail_text(write(log, "one\ntwo")) == "one\ntwo"


def test_windows_line_ends_make_no_frames(log: Path) -> None:
    assert tail_text(write(log, "one\r\ntwo\r\r\nthree\r\n")) == "one\ntwo\nthree"


def test_the_last_frame_of_each_bar_is_kept_and_glued_probes_are_split_off(log: Path) -> None:
    shown = tail_text(write(log, "Loading\n" + FORGE_BARS)).splitlines()
    assert shown == [
        "(2 access lines of health probes left out)",
        "Loading",
        "Total progress:  25%|██▌       | 2/8 [00:00<00:02,  2.02it/s]",
        "25%|██▌       | 2/8 [00:03<00:10,  1.79s/it]",
    ]


def test_text_glued_to_a_bar_becomes_a_line_of_its_own(log: Path) -> None:
    write(log, "\r  0%|          | 0/5 [00:00<?, ?it/s]INFO:     hello\nnext\n")
    assert tail_text(log) == "0%|          | 0/5 [00:00<?, ?it/s]\nINFO:     hello\nnext"


def test_a_rich_bar_of_sdnext_is_one_bar(log: Path) -> None:
    frames = "".join(
        f"\rProgress  1.6it/s \x1b[38;2;50;127;186m███\x1b[0m  {n}5% {n}/6 00:0{n} 00:30 Base"
        for n in range(6)
    )
    assert tail_text(write(log, frames)) == "Progress  1.6it/s ███  55% 5/6 00:05 00:30 Base"


def test_an_overwritten_line_of_unknown_form_is_a_bar(log: Path) -> None:
    write(log, "Downloading 1 of 3 MB\rDownloading 2 of 3 MB\rDownloading 3 of 3 MB\rready\n")
    assert tail_text(log) == "Downloading 3 of 3 MB\nready"


def test_an_error_is_never_taken_for_a_frame(log: Path) -> None:
    write(log, "ValueError: 1\rValueError: 2\rend\n")
    assert tail_text(log) == "ValueError: 1\nValueError: 2\nend"


def console_of_sdnext(text: str, columns: int = 80) -> str:
    """A message as rich writes it: wrapped between words, padded; a word that is too long starts a
    line of its own and is torn."""
    width = columns - 25
    rows, words = [""], text.split(" ")
    for word in words:
        if len(rows[-1]) + len(word) + bool(rows[-1]) <= width:
            rows[-1] += f" {word}" if rows[-1] else word
            continue
        pieces = [word[at : at + width] for at in range(0, len(word), width)]
        rows = [*filter(None, rows), *pieces]
    first, *rest = (row.ljust(width) for row in rows)
    return "".join([f"08:06:16-881707 ERROR    {first}\n", *(f"{' ' * 25}{row}\n" for row in rest)])


WRAPPED = (
    "Processing: RuntimeError [enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: "
    "can't allocate memory: you tried to allocate 10000000000 bytes.",
    f"Load model: name='{'a-very-long-name-' * 6}' not loaded",
    f'Network load: type=LoRA name="{"x" * 55}" not found',
    "short",
)


@pytest.mark.parametrize("message", WRAPPED)
def test_a_message_that_sdnext_wrapped_is_one_line_in_the_tail_and_for_followers(
    log: Path, message: str
) -> None:
    follower = LogFollower(log)
    write(log, f"before\n{console_of_sdnext(message)}after\n")
    whole = ["before", f"08:06:16-881707 ERROR    {message}", "after"]
    assert tail_text(log).splitlines() == whole
    assert follower.poll() == whole


@pytest.mark.parametrize(
    ("message", "cause"),
    [(WRAPPED[0], "(not the GPU)"), (WRAPPED[1], "SD.Next cannot load the checkpoint")],
)
def test_a_failure_that_sdnext_wrapped_is_known(log: Path, message: str, cause: str) -> None:
    follower = LogFollower(log)
    write(log, console_of_sdnext(message))
    facts = FailureFacts(WebUIReplyError("no image", status=200), log=tuple(follower.poll()))
    assert cause in diagnose(facts, builtin_signatures()).cause
    assert lines_that_matter(tail_text(log)) == [f"08:06:16-881707 ERROR    {message}"[:300]]


def test_a_lora_of_a_long_name_that_is_not_found_is_noticed(log: Path) -> None:
    follower = LogFollower(log)
    write(log, console_of_sdnext(WRAPPED[2]))
    contents = ReplyContents([Picture((512, 512))], {}, log=follower.poll())
    (found,) = findings("txt2img", {}, contents)
    assert "LoRA" in found.words


def test_an_exception_of_sdnext_is_read_whole(log: Path) -> None:
    write(log, console_of_sdnext(WRAPPED[0]))
    reply_checks = ReplyChecks(log=lambda: tuple(tail_text(log).splitlines()))
    explained = reply_checks.explain(
        WebUIReplyError("no image", status=200, kind=BadReply.NO_IMAGE)
    )
    assert "DefaultCPUAllocator: can't allocate memory" in explained.said
    assert not explained.kind


def test_a_wrapped_message_is_joined_across_two_windows_of_a_log(log: Path) -> None:
    messages = [f"{apart(n)} " + WRAPPED[0] for n in range(300)]
    write(log, "".join(map(console_of_sdnext, messages)))
    assert [line[25:] for line in tail_text(log, 300).splitlines()] == messages


def test_indented_lines_of_other_programs_stay_as_they_are(log: Path) -> None:
    lines = [
        "    result = compute_it(all)",
        f"{' ' * 25}^^^^^",
        "08:06:16-881707 INFO     Table",
        f"{' ' * 26}more than a continuation",
        f"{' ' * 25}not after that",
    ]
    assert tail_text(write(log, "\n".join(lines))).splitlines() == lines


def test_a_message_of_many_lines_is_shortened(log: Path) -> None:
    shown = tail_text(write(log, console_of_sdnext("a" * 9_000)))
    assert len(shown) < 5000
    assert "characters left out" in shown


def test_escapes_are_stripped(log: Path) -> None:
    write(
        log,
        "\x1b[1;31mred\x1b[0m \x1b]0;title\x07and \x1b]8;;http://x\x1b\\link\x1b(B\x00 end\x1b[",
    )
    assert tail_text(log) == "red and link end"


def test_utf8_split_at_the_window_and_invalid_bytes_are_no_error(log: Path) -> None:
    write(log, "é" * 50 + "\nfine\n" + "ok \xff")
    assert tail_text(log, max_bytes=15).endswith("fine\nok ÿ")
    write(log, b"caf\xc3")
    assert tail_text(log) == "caf\ufffd"
    write(log, "漢" * 10)
    assert set(tail_text(log, max_bytes=10)) == {"漢", "\ufffd"}


def test_only_the_window_is_read_of_a_sparse_gigabyte(log: Path) -> None:
    with open(log, "wb") as file:
        file.seek(1 << 30)
        file.write(b"\nthe end\n")
    assert tail_text(log) == "the end"


def test_a_line_without_end_is_shortened(log: Path) -> None:
    shown = tail_text(write(log, "a" * 100_000))
    assert len(shown) < 5000
    assert "(… 96000 characters left out …)" in shown


@pytest.mark.parametrize(
    "line",
    [
        'INFO:     127.0.0.1:5 - "GET /sdapi/v1/progress HTTP/1.1" 200 OK',
        'INFO:     127.0.0.1:5 - "GET /sdapi/v1/sd-models HTTP/1.1" 200 OK',
        'INFO:     127.0.0.1:5 - "GET /sdapi/v1/memory HTTP/1.1" 200 OK',
        'INFO:     127.0.0.1:5 - "GET / HTTP/1.1" 404 Not Found',
        'INFO:     127.0.0.1:5 - "HEAD /sdapi/v1/progress HTTP/1.1" 405 Method Not Allowed',
        "API user=None code=200 http/1.1 GET /sdapi/v1/progress 127.0.0.1 0.01",
        "08:06:33-982055 DEBUG    API user=None code=200 http/1.1 GET /sdapi/v1/memory   \n"
        "                         127.0.0.1 0.01",
        "2026-11-23 08:06:33 | vm | sd | DEBUG | api | API user=None code=200 http/1.1 GET "
        "/sdapi/v1/progress 127.0.0.1 0.01",
        "API 2026-11-23 06:52:43.123 200 http/1.1 GET /sdapi/v1/progress 127.0.0.1 0.002",
    ],
)
def test_access_lines_of_probes_are_left_out(log: Path, line: str) -> None:
    shown = tail_text(write(log, f"before\n{line}\nafter\n")).splitlines()
    assert "access lines of health probes left out" in shown[0]
    assert shown[1:] == ["before", "after"]


@pytest.mark.parametrize(
    "line",
    [
        'INFO:     127.0.0.1:5 - "POST /sdapi/v1/txt2img HTTP/1.1" 200 OK',
        'INFO:     127.0.0.1:5 - "GET /sdapi/v1/progress HTTP/1.1" 500 Internal Server Error',
        "loading /sdapi/v1/progress",
        "API user=None code=200 http/1.1 POST /sdapi/v1/txt2img 127.0.0.1 3.01",
    ],
)
def test_other_access_lines_stay(log: Path, line: str) -> None:
    assert tail_text(write(log, f"before\n{line}\n")) == f"before\n{line}"


def test_a_log_of_nothing_but_probes_says_so(log: Path) -> None:
    assert tail_text(write(log, PROBE * 5)) == "(5 access lines of health probes left out)"


def test_a_traceback_stays_when_a_flood_pushed_it_out(log: Path) -> None:
    write(log, TRACEBACK + "".join(f"noise {apart(n)}\n" for n in range(20_000)))
    shown = tail_text(log, 50).splitlines()
    assert shown[0] == "(errors from further up in this log:)"
    assert shown[1:6] == TRACEBACK.splitlines()[:5]
    assert shown[-1] == "noise bjjjj"
    assert len(shown) == 50


def test_a_traceback_is_pinned_before_a_flood_of_errors(log: Path) -> None:
    flood = "".join(f"ERROR    node {apart(n)} failed\n" for n in range(5000))
    plain = 'Traceback (most recent call last):\n  File "x"\nmodules.errors.Odd: why\n'
    shown = tail_text(write(log, plain + flood), 20).splitlines()
    assert shown[1:4] == plain.splitlines()
    assert shown.count("ERROR    node ejjj failed") == 1


def test_the_head_and_innermost_frames_of_a_long_traceback_are_pinned(log: Path) -> None:
    frames = "".join(f'  File "x.py", line {n}\n' for n in range(100))
    text = f"Traceback (most recent call last):\n{frames}KeyError: 'k'\n" + "noise\n" * 100
    shown = tail_text(write(log, text), 20).splitlines()
    assert len(shown) == 20
    assert shown[1] == "Traceback (most recent call last):"
    assert "KeyError: 'k'" in shown
    assert '  File "x.py", line 99' in shown


@pytest.mark.parametrize("frames", [200, 2000, 20_000])
def test_of_an_endless_traceback_the_message_the_innermost_frames_and_the_end_are_pinned(
    log: Path, frames: int
) -> None:
    calls = "".join(f'  File "x.py", line {n}\n    f{n}()\n' for n in range(frames))
    text = f"*** Error\nTraceback (most recent call last):\n{calls}RecursionError: too deep\n"
    noise = "".join(f"noise {apart(n)}\n" for n in range(3000))
    shown = tail_text(write(log, text + noise), 20).splitlines()
    assert shown[1] == "*** Error"
    end = shown.index("RecursionError: too deep")
    assert shown[end - 2 : end] == [f'  File "x.py", line {frames - 1}', f"    f{frames - 1}()"]


def test_a_traceback_stays_when_a_flood_filled_the_whole_window(log: Path) -> None:
    flood = "".join(f"noise {apart(n)}\n" for n in range(1000))
    shown = tail_text(write(log, TRACEBACK + flood), 50, max_bytes=5000).splitlines()
    assert shown[1:6] == TRACEBACK.splitlines()[:5]
    assert shown[-1] == "noise jjj"
    far = TRACEBACK + "".join(f"noise {apart(n)}\n" for n in range(5000))
    assert "boom" not in tail_text(write(log, far), 50, max_bytes=5000)


def test_the_last_of_many_frames_of_each_bar_is_kept_and_errors_among_them(log: Path) -> None:
    frames = [
        f"\rGPU {n % 2}: {n % 100}%|█| {n}/9 [00:0{n % 7}<00:01, 2it/s]" for n in range(60_000)
    ]
    frames[30] += "\rRuntimeError: in between"
    shown = tail_text(write(log, "before\n" + "".join(frames) + "\nafter\n")).splitlines()
    assert shown[0] == "before"
    assert "RuntimeError: in between" in shown
    assert [line[:6] for line in shown[-3:]] == ["GPU 0:", "GPU 1:", "after"]
    assert "59999/9" in shown[-2]


def test_unlike_errors_above_a_flood_are_each_shown_once(log: Path) -> None:
    errors = "".join(f"ERROR one {n}\nCUDA error: two {n}\n" for n in range(500))
    noise = "".join(f"noise {apart(n)}\n" for n in range(20_000))
    shown = tail_text(write(log, errors + noise), 50).splitlines()
    assert shown[:4] == [
        "(errors from further up in this log:)",
        "ERROR one 499",
        "CUDA error: two 499",
        "(the last 46 lines:)",
    ]


def test_the_same_is_left_out_of_a_flood_as_of_a_few_lines(log: Path) -> None:
    useful = [f"useful {apart(n)}" for n in range(300)]
    text = "".join(f"{line}\r\n{PROBE * 100}{FORGE_BARS}\r" for line in useful)
    shown = tail_text(write(log, text), 1000).splitlines()
    assert [line for line in shown if line.startswith("useful")] == useful
    assert shown[0] == f"({300 * 102} access lines of health probes left out)"


DRAWN = """\
12:13:14-123456 ERROR    Processing: args={'x'} a message that is
                         wrapped RuntimeError boom
╭───────────────────── Traceback (most recent call last) ─────────────────────╮
│ /webui/modules/processing.py:400 in process_images_inner                    │
│                                                                             │
│   399 │   │   │   │   samples = None                                         │
│ ❱ 400 │   │   │   │   raise RuntimeError("boom")                             │
╰─────────────────────────────────────────────────────────────────────────────╯
RuntimeError: boom
"""
BARE = """\
12:13:14-123456 ERROR    HTTP API: RuntimeError
/webui/modules/processing.py:99 in process

    98 │ try:
  ❱ 99 │     output = shared.sd_model(**args)
   100 │ except Exception as e:
RuntimeError: boom
"""


@pytest.mark.parametrize("drawn", [DRAWN, BARE])
@pytest.mark.parametrize(
    "noise", ["flood {}", "flood of {} that is much longer than a window " * 5]
)
def test_a_traceback_of_sdnext_is_kept_whole(log: Path, drawn: str, noise: str) -> None:
    flood = "".join(f"{noise.replace('{}', apart(n))}\n" for n in range(30_000))
    shown = tail_text(write(log, f"before\n{drawn}{flood}")).splitlines()
    joined = drawn.replace(f"\n{' ' * 25}", " ")  # its message is one line again
    lines = [line for line in joined.splitlines() if line.strip()]
    assert shown[1 : 1 + len(lines)] == lines
    assert shown[1 + len(lines)].startswith("(the last ")
    assert len(shown) == 200


def test_a_flood_that_differs_in_numbers_only_is_one_line(log: Path) -> None:
    flood = "".join(f"ERROR: minor thing {n}\r\n" for n in range(30_000))
    shown = tail_text(write(log, f"Loading\n{TRACEBACK}{flood}")).splitlines()
    one = "ERROR: minor thing 29999  (30000 such lines, but for numbers)"
    assert shown == ["Loading", *TRACEBACK.splitlines(), one]


def test_a_few_lines_alike_stay(log: Path) -> None:
    assert tail_text(write(log, "step 1\nstep 2\nstep 3\n")) == "step 1\nstep 2\nstep 3"


@pytest.mark.parametrize("max_lines", [20, 47, 200])
def test_a_tail_full_of_tracebacks_starts_with_one(log: Path, max_lines: int) -> None:
    many = "".join(TRACEBACK.replace("42", apart(n)) for n in range(1000))
    shown = tail_text(write(log, many), max_lines).splitlines()
    assert not any(line.startswith(" ") for line in shown[:1])
    _, _, last = "\n".join(shown).rpartition(" lines:)\n")
    assert last.startswith(("*** Error", "---\n*** Error"))
    assert f"    RuntimeError: boom {apart(999)}" in shown


def test_lines_that_pins_displace_are_pinned_too(log: Path) -> None:
    far = "".join(
        f"Traceback (most recent call last):\n  File {apart(n)}\nOdd: {apart(n)}\n"
        for n in range(9)
    )
    near = TRACEBACK + "".join(f"noise {apart(n)}\n" for n in range(40))
    between = "".join(f"between {apart(n)}\n" for n in range(200))
    shown = tail_text(write(log, far + between + near), 50).splitlines()
    assert "    RuntimeError: boom 42" in shown
    assert len(shown) == 50


@pytest.mark.parametrize("max_lines", [-1, 0, 1, 2, 3, 5, 6, 7, 9])
def test_a_small_number_of_lines_is_kept(log: Path, max_lines: int) -> None:
    write(log, TRACEBACK + PROBE + "noise\n" * 100)
    assert len(tail_text(log, max_lines).splitlines()) <= max(1, max_lines)


@pytest.mark.posix_only("pipes and links")
def test_the_tail_says_why_it_cannot_be_read(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    file = write(tmp_path / "file", "x")
    cases = {
        None: "no log file",
        tmp_path / "missing.log": "is gone",
        file / "below": "is gone",
        tmp_path: "is a folder",
        fifo: "not a regular file",
        loop: f"cannot be read: {os.strerror(errno.ELOOP)}: {loop})",
        Path("nul\0byte"): "cannot be read",
        write(tmp_path / "empty", ""): "has no lines",
    }
    for source, words in cases.items():
        shown = tail_text(source)
        assert shown.startswith("(no output: ")
        assert words in shown


def test_the_tail_says_that_a_file_may_not_be_read(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> int:
        raise PermissionError(13, "Permission denied", args, kwargs)

    write(log, "x")
    monkeypatch.setattr(system, "open_to_read", refuse)  # root may read all
    assert "may not be read by this user" in tail_text(log)


@examples(100)
@given(
    data=st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.sampled_from(
                [b"\r", b"\n", b"\x1b[", b"\x1b]", b" 5%|", b"| 1/2 [a]", b"Progress "]
            ),
            st.sampled_from([PROBE.encode(), TRACEBACK.encode(), FORGE_BARS.encode()]),
        ),
        max_size=30,
    ).map(b"".join),
    max_lines=st.integers(0, 20),
    max_bytes=st.integers(1, 500),
)
def test_no_bytes_raise(data: bytes, max_lines: int, max_bytes: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = write(Path(folder) / "x.log", data)
        shown = tail_text(log, max_lines, max_bytes=max_bytes)
        assert "\x1b" not in shown
        assert len(shown.split("\n")) <= max(1, max_lines)
        follower = LogFollower(log)
        assert all("\x1b" not in line for line in follower.poll())
        assert follower.poll() == []


# --- capture_tail ----------------------------------------------------------------------------


def start(code: str, stdout: object, stderr: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-u", "-c", f"import sys\n{code}\nsys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=stdout,  # type: ignore[call-overload]
        stderr=stderr,
    )


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


@pytest.mark.posix_only("Windows does not say which file is a process's output")
def test_a_process_is_read_through_its_files(tmp_path: Path) -> None:
    out, err = tmp_path / "out.log", tmp_path / "err.log"
    with open(out, "ab") as o, open(err, "ab") as e:
        process = start("print('to out'); print('to err', file=sys.stderr)", o, e)
    try:
        wait_until(lambda: err.read_text(), why="the process has written")
        expected = {"stdout": "to out", "stderr": "to err"}
        assert capture_tail(process) == expected
        assert capture_tail(process.pid) == expected
        assert capture_tail(psutil.Process(process.pid)) == expected
        out.unlink()
        assert capture_tail(process.pid) == expected
    finally:
        end(process)


@pytest.mark.posix_only("Windows does not say which file is a process's output")
def test_a_shared_log_file_is_shown_once(tmp_path: Path) -> None:
    with open(tmp_path / "both.log", "ab") as file:
        process = start("print('hello')", file, subprocess.STDOUT)
    try:
        wait_until((tmp_path / "both.log").read_text, why="the process has written")
        assert capture_tail(process) == {"stdout": "hello", "stderr": SAME}
    finally:
        end(process)


@pytest.mark.posix_only("Windows does not say which file is a process's output")
def test_a_pipe_a_socket_and_a_device_are_never_read() -> None:
    ours, theirs = socket.socketpair()
    process = start("print('hello')", subprocess.PIPE, theirs)
    try:
        shown = capture_tail(process)
        assert "writes to a pipe" in shown["stdout"]
        assert "writes to a socket" in shown["stderr"]
        assert process.stdout is not None
        assert process.stdout.readline() == b"hello\n"
    finally:
        end(process)
        ours.close()
        theirs.close()
    silent = start("", subprocess.DEVNULL, subprocess.DEVNULL)
    try:
        assert "/dev/null" in capture_tail(silent)["stdout"]
    finally:
        end(silent)


@pytest.mark.posix_only("zombies")
def test_the_tail_says_that_a_process_has_ended(tmp_path: Path) -> None:
    with open(tmp_path / "out.log", "ab") as file:
        process = start("", file, file)
    handle = psutil.Process(process.pid)
    process.kill()
    wait_until(lambda: handle.status() == psutil.STATUS_ZOMBIE, why="killed, and not yet reaped")
    for source in (handle, process.pid):
        assert "has ended" in capture_tail(source)["stdout"]
    end(process)
    for gone in (handle, process.pid, process):
        shown = capture_tail(gone)
        assert "has ended" in shown["stdout"]
        assert "has ended" in shown["stderr"]


def test_files_are_taken_alone_in_pairs_and_half(tmp_path: Path) -> None:
    out = write(tmp_path / "out.log", "to out\n")
    err = write(tmp_path / "err.log", "to err\n")
    assert capture_tail((out, err)) == {"stdout": "to out", "stderr": "to err"}
    assert capture_tail((None, err))["stdout"] == "(no output: there is no log file)"
    assert capture_tail(out) == {"stdout": "to out", "stderr": SAME}
    assert capture_tail(str(err))["stdout"] == "to err"


@pytest.mark.parametrize("source", [None, 0, -1, True, 1.5, object(), [], (1, 2, 3), 2**70])
def test_the_tail_says_that_there_is_no_source(source: object) -> None:
    shown = capture_tail(source)
    assert set(shown) == {"stdout", "stderr"}
    assert all(text.startswith("(no output: ") for text in shown.values())


# --- LogFollower -----------------------------------------------------------------------------


def append(path: Path, text: str | bytes) -> None:
    with open(path, "ab") as file:
        file.write(text if isinstance(text, bytes) else text.encode())


def test_only_complete_new_lines_are_given(log: Path) -> None:
    follower = LogFollower(log)
    assert follower.poll() == []
    append(log, "one\ntw")
    assert follower.poll() == ["one"]
    assert follower.poll() == []
    append(log, "o é"[:-1].encode() + "é".encode()[:1])
    assert follower.poll() == []
    append(log, "é".encode()[1:] + b"\n")
    assert follower.poll() == ["two é"]


def test_a_bar_that_moves_is_activity_and_one_redrawn_by_a_timer_is_not(log: Path) -> None:
    follower = LogFollower(log)
    append(log, "\r 20%|██        | 1/5 [00:01<00:04, 1.0s/it]")
    assert follower.poll() == ["20%|██        | 1/5 [00:01<00:04, 1.0s/it]"]
    assert follower.activity() == 1
    append(log, "\r 20%|██        | 1/5 [00:30<02:00, 30.0s/it]")
    assert follower.poll() == []
    assert follower.activity() == 1
    append(log, "\r 40%|████      | 2/5 [00:31<02:00, 30.0s/it]\r 60%|██████    | 3/5 [00:32<02:00")
    append(log, ", 30.0s/it]")
    assert follower.poll() == ["60%|██████    | 3/5 [00:32<02:00, 30.0s/it]"]
    assert follower.activity() == 3


def test_probes_are_no_activity(log: Path) -> None:
    follower = LogFollower(log)
    append(log, PROBE * 10 + PROBE.replace("200 OK", "500 Internal Server Error"))
    assert follower.poll() == []
    assert follower.activity() == 0
    append(log, "Model loaded\n")
    assert follower.poll() == ["Model loaded"]
    assert follower.activity() == 1


def test_rotation_is_followed(log: Path) -> None:
    follower = LogFollower(log)
    append(log, "old one\n")
    follower.poll()
    log.rename(log.with_name("webui.log.1"))
    assert follower.poll() == []
    append(log, "new and longer than the old one\n")
    assert follower.poll() == ["new and longer than the old one"]


def test_truncation_in_place_is_followed_even_when_the_log_is_longer_again(log: Path) -> None:
    follower = LogFollower(log)
    append(log, "before\nunfinished")
    assert follower.poll() == ["before"]
    os.truncate(log, 0)
    append(log, "a\n")
    assert follower.poll() == ["a"]
    os.truncate(log, 0)
    append(log, "longer than all that was there\n")
    assert follower.poll() == ["longer than all that was there"]


def test_a_log_that_vanishes_and_comes_back_is_followed(log: Path) -> None:
    follower = LogFollower(log)
    append(log, "one\n")
    follower.poll()
    log.unlink()
    assert follower.poll() == []
    log.mkdir()
    assert follower.poll() == []
    log.rmdir()
    append(log, "two\n")
    assert follower.poll() == ["two"]
    assert follower.activity() == 2


def all_polls(follower: LogFollower) -> list[str]:
    lines = follower.poll()
    while follower.is_behind:
        lines += follower.poll()
    return lines


def test_a_poll_is_bounded_and_the_next_ones_catch_up(log: Path) -> None:
    follower = LogFollower(log)
    append(log, "x" * 50 + "\n")
    follower.poll()
    flood = [f"line {n} of a flood" for n in range(150_000)]  # not quite 4 MiB
    append(log, "\n".join(flood) + "\nthe end\n")
    assert len(follower.poll()) < 60_000
    assert follower.is_behind
    assert all_polls(follower)[-1] == "the end"
    append(log, "after\n")
    assert follower.poll() == ["after"]
    assert not follower.is_behind


def test_of_a_flood_that_must_be_skipped_the_errors_are_given(log: Path) -> None:
    follower = LogFollower(log)
    append(log, "before\n")
    follower.poll()
    flood = "".join(f"flood {apart(n)} {'.' * 180}\n" for n in range(10_000))
    append(log, flood + "\n" + TRACEBACK + "\n" + flood * 4 + "the end\n")
    assert log.stat().st_size > 8 * 1024 * 1024
    lines = all_polls(follower)
    first = lines.index(TRACEBACK.splitlines()[0])
    assert lines[first : first + 5] == TRACEBACK.splitlines()[:5]
    assert lines[-1] == "the end"
    assert len(lines) < 30_000, "it is further behind than 4 MiB"
    assert set(lines[first + 6 :]) <= {*flood.splitlines(), "the end"}, "no line is torn"


# --- cap_file --------------------------------------------------------------------------------


def test_a_log_below_its_cap_is_left_alone(log: Path) -> None:
    write(log, "small\n")
    assert not cap_file(log, 100)
    assert log.read_text() == "small\n"


def test_an_append_writer_continues_after_the_cap(log: Path) -> None:
    follower = LogFollower(log)
    with open(log, "ab", buffering=0) as writer:
        writer.write(b"first\n" * 100 + b"last words\n")
        follower.poll()
        assert cap_file(log, 100)
        assert log.stat().st_size == 0
        assert log.with_name("webui.log.1").read_text().endswith("last words\n")
        writer.write(b"after the cap\n")
    assert log.read_text() == "after the cap\n"
    assert follower.poll() == ["after the cap"]


def test_a_cap_acts_even_when_the_end_cannot_be_saved(log: Path) -> None:
    write(log, "x" * 200)
    log.with_name("webui.log.1").mkdir()
    assert not cap_file(log.with_name("missing"), 10)
    assert not cap_file(log.parent, 10)
    assert cap_file(log, 100)
    assert log.stat().st_size == 0


def test_a_line_without_an_end_is_reported_once(tmp_path: Path) -> None:
    """Two frames of one bar in it: found by chance."""
    text = "\r 25%|██▌       | 2/8 [00:03<00:10,  1.79s/it]0%||!/! []"
    follower = LogFollower(write(tmp_path / "x.log", text.encode()))
    assert follower.poll() != []
    assert follower.poll() == []
