"""`sdwatch init` finds the WebUIs that are installed: real folders, links, odd names."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from sdwatch.cli.checks.find_webuis import InstalledWebUI, webui_in
from sdwatch.cli.init import config_text, with_install
from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.config import WebUIConfig
from sdwatch.config_file import load_config, parse_config
from sdwatch.policy.kinds.table import KINDS
from tests.functional.cli import sdwatch
from tests.functional.installs import PYTHON, home_env, install, stability_matrix

POSIX = pytest.mark.posix_only("such names and links need rights that a user there may not have")
SETTINGS = (
    "AppData/Roaming/StabilityMatrix" if sys.platform == "win32" else ".config/StabilityMatrix"
)
KNOWN = [kind.name for kind in KINDS.values() if kind.signs.files]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def init(home: Path, *words: object) -> tuple[int, str, WebUIConfig | None]:
    """The exit code, all that it printed, and the WebUI in the config that it wrote."""
    made = home.parent / "made"
    ran = sdwatch(home.parent, "init", made, *words, **home_env(home))
    config = made / "sdwatch.yaml"
    webui = load_config(config).webuis[0] if config.exists() else None
    return ran.returncode, ran.stdout + ran.stderr, webui


def check_filled_in(webui: WebUIConfig | None, folder: Path) -> None:
    assert webui is not None
    assert webui.cwd == folder
    assert webui.command is not None
    assert Path(webui.command[0]) == folder / PYTHON


@pytest.mark.parametrize("kind", KNOWN)
def test_an_install_in_the_home_is_found_and_filled_in(home: Path, kind: str) -> None:
    folder = install(home / "my webui", kind)
    code, said, webui = init(home, "--webui", kind)
    assert code == ExitCode.OK, said
    assert f"Found {KINDS[kind].title} in {folder}" in said
    check_filled_in(webui, folder)


def test_the_config_that_is_filled_in_has_no_mistakes(home: Path) -> None:
    install(home / "stable-diffusion-webui-forge", "forge", python="")
    if sys.platform != "win32":
        (home / "stable-diffusion-webui-forge/venv/bin").mkdir(parents=True)
        (home / "stable-diffusion-webui-forge" / PYTHON).symlink_to(sys.executable)
    code, said, _ = init(home, "--webui", "forge")
    assert code == ExitCode.OK
    if sys.platform != "win32":
        ran = sdwatch(home.parent / "made", "check")
        assert ran.returncode == ExitCode.OK, ran.stderr + said


def test_of_several_installs_none_is_guessed_and_the_named_one_is_taken(home: Path) -> None:
    one, two = install(home / "one", "forge"), install(home / "apps" / "two", "forge")
    code, said, webui = init(home, "--webui", "forge")
    assert code == ExitCode.ERROR
    assert webui is None
    assert f"--from {one}" in said
    assert f"--from {two}" in said
    assert not (home.parent / "made").exists()
    code, said, webui = init(home, "--from", two)
    assert code == ExitCode.OK, said
    check_filled_in(webui, two)


def test_another_kind_is_not_taken(home: Path) -> None:
    install(home / "one", "sdnext")
    code, said, webui = init(home, "--webui", "forge")
    assert code == ExitCode.OK, said
    assert webui is not None
    assert webui.cwd != home / "one"
    assert "EDIT" in said


def test_without_a_choice_the_simulator_is_taken_and_what_is_there_is_named(home: Path) -> None:
    folder = install(home / "sd", "a1111")
    code, said, webui = init(home)
    assert code == ExitCode.OK
    assert webui is not None
    assert webui.name == "simulator"
    assert f"sdwatch init DIR --from {folder}" in said


def test_an_install_without_a_venv_is_filled_in_with_what_to_do(home: Path) -> None:
    folder = install(home / "sd", "a1111", python="")
    code, said, webui = init(home, "--from", folder)
    assert code == ExitCode.OK
    assert "It has no venv yet" in said
    assert webui is not None
    assert webui.cwd == folder


@pytest.mark.parametrize("named", [True, False], ids=["library.json", "the usual folder"])
def test_the_packages_of_stability_matrix_are_found(home: Path, named: bool) -> None:
    usual = home / (SETTINGS if sys.platform == "win32" else "StabilityMatrix")
    library = home.parent / "disk" / "SM" if named else usual
    folder = install(library / "Packages" / "Forge Neo", "forge-neo")
    stability_matrix(library, "Forge Neo", named_in=home / SETTINGS if named else None)
    code, said, webui = init(home, "--webui", "forge-neo")
    assert code == ExitCode.OK, said
    check_filled_in(webui, folder)


def test_a_portable_stability_matrix_is_found(home: Path) -> None:
    data = home / "Downloads" / "StabilityMatrix-win" / "Data"
    folder = install(data / "Packages" / "automatic", "sdnext")
    (data / ".sm-portable").touch()
    code, said, webui = init(home, "--webui", "sdnext")
    assert code == ExitCode.OK, said
    check_filled_in(webui, folder)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"LibraryPath": 7}', "\0", "[" * 100_000])
def test_broken_settings_of_stability_matrix_cost_nothing(home: Path, text: str) -> None:
    settings = home / SETTINGS
    settings.mkdir(parents=True)
    for name in ("library.json", "settings.json"):
        (settings / name).write_text(text, encoding="utf-8")
    folder = install(home / "sd", "a1111")
    code, said, webui = init(home, "--webui", "a1111")
    assert code == ExitCode.OK, said
    check_filled_in(webui, folder)


@POSIX
def test_links_to_one_install_are_one_and_loops_and_dead_links_are_none(home: Path) -> None:
    real = install(home.parent / "disk" / "forge", "forge")
    (home / "a").symlink_to(real)
    (home / "b").symlink_to(real)
    (home / "loop").symlink_to(home / "loop")
    (home / "dead").symlink_to(home / "nowhere")
    (home / "round").mkdir()
    (home / "round" / "webui").symlink_to(home)
    code, said, webui = init(home, "--webui", "forge")
    assert code == ExitCode.OK, said
    check_filled_in(webui, home / "a")


@POSIX
@pytest.mark.parametrize(
    "name",
    [
        *("it's", 'a "b" c', "x: y # z", "{port}", "[a, b]", "- x", "café 画", "$(touch x)"),
        *("back\\slash", "%PATH%", "*", "~", "tab\u00a0s", "x]\u202e"),
    ],
)
def test_an_odd_name_of_a_folder_is_written_as_it_is(home: Path, name: str) -> None:
    folder = install(home / name, "forge")
    code, said, webui = init(home, "--webui", "forge")
    assert code == ExitCode.OK, said
    check_filled_in(webui, folder)
    assert "\u202e" not in said


@POSIX
@pytest.mark.parametrize("name", [b"line\nend", b"\x1b[2J", b"\xff\xfe"])
def test_a_name_that_no_config_can_have_is_left_out(home: Path, name: bytes) -> None:
    bad = Path(os.fsdecode(os.fsencode(home) + b"/" + name))
    install(bad, "forge")
    assert webui_in(bad) is None
    code, said, webui = init(home, "--webui", "forge")
    assert code == ExitCode.OK
    assert webui is not None
    assert webui.cwd != bad
    assert "\x1b" not in said


@POSIX
def test_what_anybody_may_have_put_there_is_not_filled_in(home: Path) -> None:
    shared = home / "Downloads"
    shared.mkdir()
    shared.chmod(0o777)
    install(shared / "forge", "forge")
    code, said, webui = init(home, "--webui", "forge")
    assert code == ExitCode.OK, said
    assert webui is not None
    assert webui.cwd != shared / "forge"


@pytest.mark.parametrize("name", ["", "nowhere", "empty"])
def test_a_folder_without_a_webui_is_refused_and_nothing_is_made(home: Path, name: str) -> None:
    (home / "empty").mkdir()
    code, said, webui = init(home, "--from", home / name)
    assert code == ExitCode.ERROR
    assert "there is no WebUI that sdwatch recognises" in said
    assert webui is None


def test_a_kind_that_does_not_fit_the_folder_is_refused(home: Path) -> None:
    folder = install(home / "sd", "a1111")
    code, said, _ = init(home, "--from", folder, "--webui", "forge")
    assert code == ExitCode.ERROR
    assert "leave out --webui forge" in said


def test_a_one_click_package_is_found_by_its_own_folder(home: Path) -> None:
    inside = install(home / "webui_forge_cu121" / "webui", "forge", python="")
    code, said, webui = init(home, "--from", home / "webui_forge_cu121")
    assert code == ExitCode.OK, said
    assert webui is not None
    assert webui.cwd == inside


@pytest.mark.parametrize("name", KNOWN)
def test_the_git_of_stability_matrix_is_named_in_the_environment(name: str) -> None:
    git = Path("/sm/PortableGit/bin/git.exe")
    found = InstalledWebUI(Path("/sm/Packages/x"), KINDS[name], PYTHON, git)
    config = parse_config(with_install(config_text(name), found).encode(), "c", Path("/far"))
    (webui,) = config.webuis
    assert webui.env["GIT"] == str(git)
    assert webui.cwd == Path("/sm/Packages/x")
