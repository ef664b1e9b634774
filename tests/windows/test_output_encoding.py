"""What a WebUI prints into a file: in UTF-8 where it is Python, else in whatever it is."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdwatch.policy.privacy.redaction import Redactor
from sdwatch.system.clock import SystemClock
from sdwatch.webui.log import log_lines
from sdwatch.webui.log.follower import LogFollower
from sdwatch.webui.log.log_lines import decoded
from sdwatch.webui.log.tail_capture import tail_text
from sdwatch.webui.process.incarnation import ProcessSettings
from sdwatch.webui.process.process import WebUIProcessManager
from sdwatch.webui.process.readiness import ProbeResult
from tests.support.helpers import free_port, wait_until

PROMPT = "ein Schloß über dem Tal, 山の城, 🏰"
PRINTS = f"print({PROMPT!a}); import sys; print({PROMPT!a}, file=sys.stderr)"
AS_ON_WINDOWS = {"PYTHONIOENCODING": "cp1252"}
WITHOUT_LOCALE = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def printed(state: Path, script: str, **env: str) -> dict[str, str]:
    """What is in the logs of a WebUI that runs `script` and ends."""
    manager = WebUIProcessManager(
        ProcessSettings(
            name="printer",
            command=[sys.executable, "-c", script],
            port=free_port(),
            state_dir=state,
            env=env,
        ),
        clock=SystemClock(),
        probe=lambda: ProbeResult(False, "it has no API"),
    )
    manager.start()
    wait_until(lambda: manager.last_exit, why="it ended")
    manager.stop()
    return manager.get_tail_logs()


@pytest.mark.parametrize("inherited", [AS_ON_WINDOWS, WITHOUT_LOCALE])
def test_a_python_prints_every_letter_whatever_its_system_is(
    state: Path, inherited: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in inherited.items():
        monkeypatch.setenv(name, value)
    assert printed(state, PRINTS) == {"stdout": PROMPT, "stderr": PROMPT}


def test_what_utf8_cannot_say_is_escaped_and_raises_nothing(state: Path) -> None:
    assert printed(state, r"print('a \udcff b'); print('after')")["stdout"] == "a \\udcff b\nafter"


def test_the_configs_env_has_the_last_word(state: Path) -> None:
    result = printed(state, "import sys; print(sys.stdout.encoding)", PYTHONIOENCODING="cp1252")
    assert result["stdout"] == "cp1252"


# -- logs that are not UTF-8, or not all of them

WESTERN = ("cp1252", "cp850")
TEXTS = ["ein Schloß über dem Tal", "un château près de la forêt, à l'aube", "año, niño, corazón"]


@pytest.fixture
def western(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Windows of Western Europe, wherever this runs."""
    monkeypatch.setattr("sdwatch.system.code_pages", lambda: WESTERN)
    log_lines._code_pages.cache_clear()
    yield
    log_lines._code_pages.cache_clear()


@pytest.mark.usefixtures("western")
@pytest.mark.parametrize("encoding", ["utf-8", *WESTERN])
@pytest.mark.parametrize("text", TEXTS)
def test_a_prompt_is_recognized_in_the_log_and_hidden_whatever_its_encoding(
    tmp_path: Path, encoding: str, text: str
) -> None:
    log = tmp_path / "webui.log"
    log.write_bytes(f"loading\nprompt: {text}\nready\n".encode(encoding))
    assert tail_text(log) == f"loading\nprompt: {text}\nready"
    assert LogFollower(log).poll() == ["loading", f"prompt: {text}", "ready"]
    redactor = Redactor()
    redactor.learn({"prompt": text})
    assert text not in redactor.redact(tail_text(log))
    assert "loading" in redactor.redact(tail_text(log))


@pytest.mark.usefixtures("western")
def test_each_line_has_the_encoding_of_the_program_that_wrote_it() -> None:
    lines = [line.encode(name) for line, name in zip(TEXTS, ["utf-8", *WESTERN], strict=True)]
    assert decoded(b"\n".join([*lines, b""])) == "\n".join([*TEXTS, ""])


def test_a_chinese_windows_has_one_code_page_for_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdwatch.system.code_pages", lambda: ("cp936", "cp936"))
    log_lines._code_pages.cache_clear()
    try:
        assert decoded("提示: 山上的城堡\n".encode("cp936")) == "提示: 山上的城堡\n"
    finally:
        log_lines._code_pages.cache_clear()


def test_a_code_page_that_python_does_not_know_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sdwatch.system.code_pages", lambda: ("cp99999", "cp1252"))
    log_lines._code_pages.cache_clear()
    try:
        assert decoded("à l'aube\n".encode("cp1252")) == "à l'aube\n"
    finally:
        log_lines._code_pages.cache_clear()


@pytest.mark.parametrize("whole", ["é", "城", "🏰"])
def test_a_letter_that_is_not_all_written_yet_is_not_taken_for_others(
    tmp_path: Path, whole: str
) -> None:
    log, data = tmp_path / "webui.log", f"at {whole}".encode()
    follower = LogFollower(log)
    for end in range(4, len(data)):
        log.write_bytes(data[:end])
        follower.poll()
        assert follower.unfinished == "at \ufffd"
    log.write_bytes(data + b"\n")
    assert follower.poll() == [f"at {whole}"]


def test_one_wrong_byte_leaves_the_other_letters_of_its_line_alone() -> None:
    assert decoded("山の城 ".encode() + b"\xff" + " 雪の谷\n".encode()) == "山の城 \ufffd 雪の谷\n"
