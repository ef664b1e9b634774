"""What can be known of a start without starting anything: real folders, the config's own place."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sdwatch.cli.checks import start_check
from sdwatch.cli.checks.start_check import findings_of, problems_of
from sdwatch.config_file import load_config

COMMAND = ["venv/bin/python", "-u", "launch.py", "--api", "--port", "{port}"]
POSIX = pytest.mark.posix_only("the install that is made has links and modes")


LOCAL = ("--server-name", "127.0.0.1")


class Install:
    """A WebUI's folder, and the config that starts it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.webui = folder / "webui"
        for name in ("modules", "venv/bin"):
            (self.webui / name).mkdir(parents=True)
        (self.webui / "launch.py").write_text("")
        self.python = self.webui / "venv/bin/python"
        self.python.symlink_to(sys.executable)

    def knows(self, *flags: str) -> None:
        """Its source has these flags, and enough others."""
        names = [
            *flags,
            "--api",
            "--nowebui",
            "--server-name",
            "--port",
            *(f"--other-{n}" for n in range(20)),
        ]
        lines = "".join(f'parser.add_argument("{name}")\n' for name in names)
        (self.webui / "modules/cmd_args.py").write_text(lines)

    def told(
        self, command: list[str], port: int = 7860, cwd: str = "webui", env: str = "{}"
    ) -> list[str]:
        """`line:column: message` of the mistakes; warnings have a word in front."""
        words = "\n".join(f"    - '{word}'" for word in command)
        text = (
            f"spool: spool\nstate: state\nwebuis:\n  one:\n    url: http://127.0.0.1:{port}\n"
            f"    cwd: {cwd}\n    env: {env}\n    command:\n{words}\n"
        )
        file = self.folder / "sdwatch.yaml"
        file.write_text(text)
        mistakes, warnings = problems_of(load_config(file), file)
        return [
            *(f"{one.line}:{one.column}: {one.message}" for one in mistakes),
            *(f"warning: {one.line}:{one.column}: {one.message}" for one in warnings),
        ]


@pytest.fixture
def install(tmp_path: Path) -> Install:
    return Install(tmp_path)


@POSIX
def test_a_whole_install_has_nothing_wrong(install: Install) -> None:
    install.knows()
    assert install.told(COMMAND) == []


def test_a_webui_that_is_not_started_by_us_is_not_looked_at(tmp_path: Path) -> None:
    file = tmp_path / "sdwatch.yaml"
    file.write_text("spool: .\nstate: s\nwebuis:\n  one: {url: 'http://127.0.0.1:1'}\n")
    assert [findings_of(webui) for webui in load_config(file).webuis] == [[]]


@POSIX
def test_only_the_missing_folder_is_reported(install: Install) -> None:
    (told,) = install.told(COMMAND, cwd="gone")
    assert told.startswith("6:10: webuis.one: the folder ")
    assert "gone does not exist: set `cwd` to the folder of the WebUI" in told


@POSIX
def test_a_folder_that_is_a_file_is_reported(install: Install) -> None:
    (told,) = install.told(COMMAND, cwd="webui/launch.py")
    assert "is a file" in told


@POSIX
def test_a_missing_venv_is_reported_with_the_way_to_make_it(install: Install) -> None:
    install.python.unlink()
    (told,) = install.told(COMMAND)
    assert told.startswith("9:7: webuis.one: ")
    assert "venv/bin/python is not there: start webui.sh" in told


@POSIX
def test_a_venv_whose_python_was_removed_says_where_it_led_to(install: Install) -> None:
    install.python.unlink()
    install.python.symlink_to("/nowhere/python3.10")
    (told,) = install.told(COMMAND)
    assert "links to /nowhere/python3.10, which is not there" in told
    assert f"Remove {install.webui / 'venv'}" in told


@POSIX
@pytest.mark.parametrize("there", ["venv/Scripts/python.exe", ".venv/bin/python"])
def test_the_python_that_is_there_is_named(install: Install, there: str) -> None:
    install.python.unlink()
    (install.webui / there).parent.mkdir(parents=True)
    (install.webui / there).write_text("")
    (told,) = install.told(COMMAND)
    assert f'did you mean "{there}"?' in told


@POSIX
def test_a_program_that_may_not_be_run_is_reported(install: Install) -> None:
    (install.webui / "webui.sh").write_text("")
    (told,) = install.told(["./webui.sh"])
    assert "this user may not run" in told


def test_a_program_that_is_in_no_folder_of_the_path_is_reported(install: Install) -> None:
    (told,) = install.told(["no-such-python-anywhere", "launch.py", "--api"])
    assert "there is no program no-such-python-anywhere in the PATH" in told


@POSIX
def test_the_path_of_the_config_counts(install: Install) -> None:
    (install.folder / "mine").symlink_to(sys.executable)
    assert install.told(["mine"], env=f"{{PATH: {install.folder}}}") == []
    assert install.told(["mine"]) != []


@POSIX
def test_a_batch_file_is_for_windows(install: Install) -> None:
    (install.webui / "webui.bat").write_text("")
    (told,) = install.told(["./webui.bat"])
    assert "is for Windows" in told


@POSIX
def test_on_windows_a_batch_file_is_warned_of_and_a_shell_script_is_a_mistake(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("webui.bat", "webui.sh"):
        (install.webui / name).write_text("")
    monkeypatch.setattr(start_check, "_WINDOWS", True)
    (told,) = install.told(["./webui.bat"])
    assert told.startswith("warning: 9:7: ")
    assert "waits for a key" in told
    (told,) = install.told(["./webui.sh"])
    assert told.startswith("9:7: ")
    assert "does not run on Windows" in told


@POSIX
@pytest.mark.parametrize("windows", [True, False])
def test_a_venv_whose_python_is_gone_is_reported(
    install: Install, monkeypatch: pytest.MonkeyPatch, windows: bool
) -> None:
    """On Windows venv's python.exe would say: No Python at ..."""
    (install.webui / "venv/pyvenv.cfg").write_text("home = /nowhere/Python310\nversion = 3.10\n")
    monkeypatch.setattr(start_check, "_WINDOWS", windows)
    (told,) = install.told(COMMAND)
    assert told.startswith("9:7: " if windows else "warning: 9:7: ")
    assert "was made from /nowhere/Python310, which is not there" in told


@POSIX
def test_a_folder_without_launch_py_is_reported_at_that_word(install: Install) -> None:
    (install.webui / "launch.py").unlink()
    (told,) = install.told(COMMAND)
    assert told.startswith("11:7: webuis.one: there is no launch.py in ")
    assert "set `cwd` to the folder in which the WebUI is installed" in told


@POSIX
def test_a_launch_py_one_folder_below_is_named(install: Install) -> None:
    command = [str(install.python), *COMMAND[1:]]
    (told,) = install.told(command, cwd=".")
    assert f"it is in {install.webui}: set `cwd` to that" in told


@POSIX
def test_a_missing_shell_script_is_reported(install: Install) -> None:
    (told,) = install.told(["bash", "webui.sh", "--api"])
    assert told.startswith("10:7: webuis.one: there is no webui.sh in ")


@POSIX
@pytest.mark.parametrize(
    "command", [["bash", "-c", "cd x && ./y"], ["venv/bin/python", "-m", "sdwatch.simulator"]]
)
def test_what_runs_no_file_is_not_looked_for(install: Install, command: list[str]) -> None:
    assert install.told(command) == []


@POSIX
def test_a_flag_that_is_not_in_the_source_is_reported_with_the_nearest_one(
    install: Install,
) -> None:
    install.knows("--always-low-vram")
    (told,) = install.told([*COMMAND, "--alway-low-vram", "--nowebui", *LOCAL])
    assert told.startswith("15:7: webuis.one: this WebUI does not know the flag --alway-low-vram")
    assert 'did you mean "--always-low-vram"?' in told


@POSIX
def test_a_flag_of_an_extension_and_the_start_of_one_are_known(install: Install) -> None:
    install.knows("--always-low-vram")
    (install.webui / "extensions/one").mkdir(parents=True)
    (install.webui / "extensions/one/preload.py").write_text("p.add_argument('--one-flag')")
    assert install.told([*COMMAND, "--one-flag=3", "--always-low", "-f"]) == []


@POSIX
def test_flags_are_not_checked_where_the_source_does_not_show_them(install: Install) -> None:
    (install.webui / "modules/cmd_args.py").write_text("parser.add_argument('--api')")
    assert install.told([*COMMAND, "--anything"]) == []


@POSIX
def test_a_command_without_api_is_a_mistake_and_says_which_flag(install: Install) -> None:
    command = ["venv/bin/python", "launch.py", "--port", "{port}"]
    (told,) = install.told(command)
    assert told.startswith("9:5: webuis.one: without --api the WebUI starts without its API")
    assert install.told([*command, "--nowebui", *LOCAL]) == []
    assert install.told(command, env="{COMMANDLINE_ARGS: --api --xformers}") == []


@POSIX
def test_sdnext_needs_no_api_flag(install: Install) -> None:
    (install.webui / "installer.py").write_text("")
    assert install.told(["venv/bin/python", "launch.py", "--port", "{port}"]) == []


@POSIX
@pytest.mark.parametrize("flag", [["--port", "7861"], ["--port=7861"]])
def test_another_port_than_that_of_the_url_is_reported(install: Install, flag: list[str]) -> None:
    (told,) = install.told([*COMMAND[:4], *flag])
    assert told.startswith("13:7: webuis.one: the command has --port 7861, but `url` has 7860")
    assert '--port "{port}"' in told


@POSIX
def test_no_port_is_only_right_for_the_default_one(install: Install) -> None:
    assert install.told(COMMAND[:4]) == []
    (told,) = install.told(COMMAND[:4], port=7861)
    assert "without --port the WebUI listens on 7860, but `url` has 7861" in told


@POSIX
def test_a_model_folder_that_is_not_mounted_is_warned_of(install: Install) -> None:
    (told,) = install.told([*COMMAND, "--ckpt-dir", "/mnt/gone"])
    assert told.startswith("warning: 15:7: webuis.one: --ckpt-dir: there is no folder /mnt/gone")
    (install.webui / "own").mkdir()
    assert install.told([*COMMAND, "--ckpt-dir=own"]) == []


@POSIX
def test_without_a_venv_comfyui_gets_the_commands_that_make_one(tmp_path: Path) -> None:
    """It has no script that makes it."""
    install = Install(tmp_path)
    for name in ("main.py", "nodes.py", "comfy/cli_args.py"):
        (install.webui / name).parent.mkdir(exist_ok=True)
        (install.webui / name).touch()
    install.python.unlink()
    (told,) = install.told(["venv/bin/python", "-u", "main.py", "--port", "{port}"])
    assert "python -m venv venv" in told
    assert "webui.sh" not in told


def test_the_templates_of_a_comfyui_are_checked_with_their_places(tmp_path: Path) -> None:
    folder = tmp_path / "templates"
    folder.mkdir()
    (folder / "flux.txt2img.json").write_text('{\n  "1": {"inputs": {}}\n}\n')
    file = tmp_path / "sdwatch.yaml"
    webui = "{url: 'http://127.0.0.1:1', templates: templates}"
    file.write_text(f"spool: .\nstate: s\nwebuis:\n  one: {webui}\n")
    file.chmod(0o600)
    (mistake,), _ = problems_of(load_config(file), file)
    assert mistake.located(str(file)).startswith(f"{folder / 'flux.txt2img.json'}:2:3: node 1 has")
