"""`sdwatch web` as a process: what it prints, how it ends, what it needs, and who imports it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from tests.functional.cli import ROOT, _env, make_spool, sdwatch
from tests.support.helpers import TO_BE_ASKED, ask_to_stop, free_port, wait_until
from tests.test_structure import MODULES, imports_of, room

WEB = ("starlette", "uvicorn", "anyio", "h11", "python_multipart")


def test_it_serves_until_it_is_asked_to_stop(tmp_path: Path) -> None:
    make_spool(tmp_path)
    port = free_port()
    with open(tmp_path / "web.out", "w") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "sdwatch", "web", "--port", str(port)],
            cwd=tmp_path,
            env=_env(),
            stdout=output,
            stderr=output,
            creationflags=TO_BE_ASKED,
        )
    try:
        text = wait_until(lambda: (tmp_path / "web.out").read_text("utf-8").count("\n") > 1, 60)
        text = (tmp_path / "web.out").read_text("utf-8")
        assert f"http://127.0.0.1:{port}" in text
        token = (tmp_path / "state" / "web-token").read_text("utf-8").strip()
        assert token not in text, "only a terminal gets the token"
        wait_until(lambda: requests.get(f"http://127.0.0.1:{port}/", timeout=60).ok, 60)
        stream = requests.get(f"http://127.0.0.1:{port}/events", stream=True, timeout=60)
        assert next(stream.iter_content(4))
        told = {"Authorization": f"Bearer {token}"}
        job = {"prompt": "a castle"}
        url = f"http://127.0.0.1:{port}/drop"
        assert requests.post(url, job, headers=told, timeout=60).ok
        assert (tmp_path / "inbox" / "job.yaml").exists()
        ask_to_stop(server)
        assert server.wait(60) == 0
    finally:
        server.kill()
        server.wait()
    assert "Traceback" not in (tmp_path / "web.out").read_text("utf-8")


def test_a_port_that_is_taken_is_one_line(tmp_path: Path) -> None:
    import socket

    make_spool(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = sdwatch(tmp_path, "web", "--port", port)
    assert said.returncode == 1
    assert re.fullmatch(rf"sdwatch: 127\.0\.0\.1:{port}: cannot listen there: .+\n", said.stderr)


@pytest.mark.parametrize("missing", WEB[:3])
def test_without_the_extra_one_line_says_what_to_install(missing: str, tmp_path: Path) -> None:
    make_spool(tmp_path)
    script = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from sdwatch import cli; sys.exit(cli.main(['web', '--port', '0']))"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=_env(), capture_output=True, text=True
    )
    assert (said.returncode, said.stdout) == (1, "")
    install = 'sdwatch: sdwatch web needs more packages: python -m pip install "sdwatch[web]"\n'
    assert said.stderr == install


def test_the_textfile_needs_no_extra_and_goes_when_its_writer_stops(tmp_path: Path) -> None:
    make_spool(tmp_path)
    blocked = "".join(f"sys.modules[{name!r}] = None; " for name in WEB)
    script = (
        f"import sys; {blocked}\n"
        "from sdwatch import cli; sys.exit(cli.main(['web', '--textfile', 'sdwatch.prom']))"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", script], cwd=tmp_path, env=_env(), creationflags=TO_BE_ASKED
    )
    file = tmp_path / "sdwatch.prom"
    try:
        wait_until(file.exists, 60)
        assert "sdwatch_monitor_up 0\n" in file.read_text("utf-8")
        ask_to_stop(writer)
        assert writer.wait(60) == 0
        assert not file.exists()
    finally:
        writer.kill()
        writer.wait()


def is_web(name: str) -> bool:
    return f"{name}.".startswith("sdwatch.web.")


def test_the_monitor_imports_nothing_of_the_web_page() -> None:
    script = (
        "import json, sys\n"
        "import sdwatch.cli.run, sdwatch.cli.demo, sdwatch.monitor.monitor\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=_env(), capture_output=True, text=True
    )
    loaded = {name.split(".")[0] for name in json.loads(said.stdout)}
    assert not loaded & {*WEB, "multipart", "jinja2"}
    assert not [name for name in json.loads(said.stdout) if is_web(name)]


def test_only_the_command_imports_the_web_page_and_it_imports_no_monitor() -> None:
    for name in MODULES:
        imported = set(imports_of(name))
        if room(name) != "web" and name != "sdwatch.cli.web":
            assert not any(map(is_web, imported)), name
        if room(name) == "web":
            rooms = {room(each) for each in imported if each.startswith("sdwatch.")}
            assert not rooms & {"monitor", "lane", "stages", "service", "cli", "webui.http"}, name


def test_a_textfile_that_node_exporter_would_not_read_is_refused(tmp_path: Path) -> None:
    make_spool(tmp_path)
    said = sdwatch(tmp_path, "web", "--textfile", "metrics.txt")
    assert said.returncode == 1
    assert ".prom" in said.stderr


@pytest.mark.posix_only("a terminal of POSIX")
def test_a_terminal_gets_a_link_with_the_token(tmp_path: Path) -> None:
    import pty

    make_spool(tmp_path)
    ours, theirs = pty.openpty()
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "sdwatch", "web", "--port", str(port)],
        cwd=tmp_path,
        env=_env(),
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    said = b""
    try:
        while b"?token=" not in said or not said.endswith(b"\n"):
            said += os.read(ours, 4096)
        token = (tmp_path / "state" / "web-token").read_text("utf-8").strip()
        assert f"http://127.0.0.1:{port}/?token={token}\r\n" in said.decode()
        ask_to_stop(server)
        assert server.wait(60) == 0
    finally:
        server.kill()
        server.wait()
        os.close(ours)
