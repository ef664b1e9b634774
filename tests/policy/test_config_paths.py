"""Paths in a config: shares as Windows people write them, and what YAML's double quotes make."""

from __future__ import annotations

import ntpath
from pathlib import Path, PureWindowsPath

import pytest

from sdwatch.config_file import parse_config
from sdwatch.errors import ConfigError
from sdwatch.policy.config.config_paths import refusal, refusal_to_make
from sdwatch.policy.report.command import config_option
from tests.support.tables import table

WEBUIS = "webuis: {a: {url: 'http://127.0.0.1:7860'}}\n"

GOOD = [
    r"\\server\share\spool",
    "//server/share/spool",
    r"\\?\UNC\server\share\spool",
    r"\\?\D:\spool",
    r"\\nas.local\Bilder für alle\画像",
    r"D:\spool",
    "D:/spool",
    "spool",
    r"..\spool",
    r"C:\Users\Jürgen\AI\spool",
]


@table("path", GOOD)
def test_a_share_and_a_drive_are_good_on_windows_in_every_form(path: str) -> None:
    assert refusal(path, windows=True) == ""


@pytest.mark.parametrize(
    "path", [r"\\server\share\spool", "//server/share/spool", r"\\?\UNC\server\share\spool"]
)
def test_a_spool_on_a_share_is_joined_and_printed_as_it_is_written(path: str) -> None:
    run = PureWindowsPath(path) / "done" / "20261123-065243.123-ärger-3f2a"
    plain = ntpath.normpath(path)
    assert str(run) == rf"{plain}\done\20261123-065243.123-ärger-3f2a"
    assert run.is_absolute()
    assert run.relative_to(PureWindowsPath(path)).parts[0] == "done"
    # As config.py makes paths absolute: a relative one does not change the share.
    assert ntpath.normpath(PureWindowsPath(r"C:\sdwatch") / path) == plain


def test_a_command_names_a_config_on_a_share() -> None:
    assert config_option(r"\\server\share\sdwatch.yaml", windows=True) == (
        r" --config \\server\share\sdwatch.yaml"
    )
    assert config_option(r"\\server\für alle\sdwatch.yaml", windows=True) == (
        r' --config "\\server\für alle\sdwatch.yaml"'
    )


ESCAPES = {
    r"D:\new": "control character",
    r"D:\table": "control character",
    r"D:\Neu": "control character",
    r"D:\Pictures": "control character",
    r"D:\Lager": "control character",
    r"D:\bilder": "control character",
    r"D:\_models": "control character",
    r"\\server\nas": "control character",
    r"D:\0": "zero byte",
}


@table(("written", "says"), ESCAPES.items())
def test_what_double_quotes_make_of_a_backslash_is_explained(written: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(f'spool: "{written}"\nstate: s\n{WEBUIS}'.encode(), "c.yaml", Path("base"))
    (line,) = str(caught.value).splitlines()
    assert line.startswith("c.yaml:1:8: spool: contains a ")
    assert says in line
    assert "'single quotes'" in line


@table("written", [r"\\server\share", r"D:\spool", r"D:\users\me", r"D:\xmas"])
def test_an_escape_that_yaml_does_not_know_is_explained_as_well(written: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(f'spool: "{written}"\nstate: s\n{WEBUIS}'.encode(), "c.yaml", Path("base"))
    assert "backslash" in str(caught.value)
    assert "'single quotes'" in str(caught.value)


def test_a_share_with_half_of_its_backslashes_is_no_folder_of_this_drive() -> None:
    why = refusal(r"\server\share", windows=True)
    assert "starts with one backslash, but a share needs two" in why


@table("path", [r"\\server", "//server", "//server/", r"\\?\UNC\server"])
def test_a_server_alone_is_no_share(path: str) -> None:
    assert "names a server without a share" in refusal(path, windows=True)


@table("path", [r"\\server\share", r"D:\spool", "D:/spool", r"\server\share"])
def test_a_path_of_windows_elsewhere_makes_no_folder_of_that_name(path: str) -> None:
    assert "is a path of Windows" in refusal_to_make(path, windows=False)
    assert refusal_to_make(path, windows=True) == ""


@table("path", ["/mnt/nas/spool", "//nas/spool", "~/spool", "a\\b", "Ä/画像"])
def test_paths_of_other_systems_are_good_there(path: str) -> None:
    assert refusal(path, windows=False) == refusal_to_make(path, windows=False) == ""


@pytest.mark.posix_only("on Windows it is one of its own")
def test_the_config_refuses_to_make_a_folder_of_windows_elsewhere() -> None:
    with pytest.raises(ConfigError, match=r"c.yaml:2:8: state: .* is a path of Windows"):
        parse_config(f"spool: a\nstate: D:/s\n{WEBUIS}".encode(), "c.yaml", Path("base"))
