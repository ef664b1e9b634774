"""The config: defaults, units, paths, and what is said about mistakes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from sdwatch.config import Config
from sdwatch.config_file import default_config_text, load_config, parse_config
from sdwatch.errors import ConfigError
from sdwatch.known_signatures import load_signatures
from sdwatch.policy.failure.check_levels import LEVELS
from sdwatch.policy.job.stage.confinement import JobRules
from sdwatch.system import resources

HEAD = "spool: spool\nstate: state\n"
ONE = HEAD + "webuis:\n  one: {url: 'http://127.0.0.1:7860'}\n"
BASE = Path("/srv/box").absolute()


def config_of(text: str) -> Config:
    return parse_config(text.encode(), "c.yaml", BASE)


def problems_of(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config_of(text)
    return str(caught.value).splitlines()


def test_the_default_config_has_the_default_of_each_key() -> None:
    default = load_config(resources.config_folder() / "sdwatch.yaml")
    (webui,) = default.webuis
    smallest = config_of(ONE)
    places = {"spool", "state", "webuis"}
    assert default.model_dump(exclude=places) == smallest.model_dump(exclude=places)
    own = {"name", "url", "command"}
    assert webui.model_dump(exclude=own) == smallest.webuis[0].model_dump(exclude=own)


def test_the_default_config_names_each_key() -> None:
    text = default_config_text()
    fields = [*Config.model_fields, *type(config_of(ONE).webuis[0]).model_fields]
    fields += ["interval", "timeout", "failures"]
    missing = [name for name in fields if name != "name" and f"{name}:" not in text]
    assert missing == []


def test_the_default_config_says_first_that_its_pictures_are_not_real() -> None:
    first = default_config_text().splitlines()[0]
    assert first.startswith("#")
    assert "NOT REAL" in first


def test_the_default_webui_is_the_simulator_run_by_this_python() -> None:
    folder = resources.config_folder()
    config = load_config(folder / "sdwatch.yaml")
    webui = config.webuis[0]
    assert webui.command == (sys.executable, "-m", "sdwatch.simulator", "--port", "17860")
    assert (webui.host, webui.port) == ("127.0.0.1", 17860)
    assert (config.spool, config.state) == (folder.parent, folder.parent / "state")


READY_MADE = sorted(
    path
    for path in resources.config_folder().glob("*.yaml")
    if path.stem.endswith(("-linux", "-windows"))
)


def test_there_is_a_ready_made_config_for_each_kind_and_system() -> None:
    kinds = ("a1111", "comfyui", "forge", "forge-neo", "sdnext")
    assert {p.stem for p in READY_MADE} == {
        f"{kind}-{system}" for kind in kinds for system in ("linux", "windows")
    }


@pytest.mark.parametrize("path", READY_MADE, ids=lambda path: path.stem)
def test_each_ready_made_config_starts_its_script_on_its_port(path: Path) -> None:
    (webui,) = load_config(path).webuis
    assert webui.command is not None
    at = webui.command.index("--port")
    if webui.name == "comfyui":
        assert any(word.endswith("main.py") for word in webui.command[1:4])
        assert webui.command[at + 1] == "8188"
        return
    assert webui.command[1:3] == ("-u", "launch.py")
    assert webui.command[at:] == ("--port", "7860")
    # SD.Next exits with code 2 on flags of the others.
    assert ("--nowebui" in webui.command) == (webui.name != "sdnext")


def test_durations_and_sizes_have_units() -> None:
    config = config_of(
        "settle: 1.5\nscan_interval: 2 min\narrival_timeout: 1h\nmin_free: 500 MB\n"
        "log_cap: 1.5 gb\ncooldown: [0, 5, 1 min]\n" + ONE
    )
    assert (config.settle, config.scan_interval, config.arrival_timeout) == (1.5, 120, 3600)
    assert (config.min_free, config.log_cap) == (500_000_000, 1_500_000_000)
    assert config.cooldown == (0, 5, 60)


def test_what_jobs_may_do_is_in_the_config() -> None:
    config = config_of("max_image: 1.5 MP\nallow: [samples_save, ControlNet]\n" + ONE)
    inbox = config.spool / "inbox"
    assert config.rules == JobRules(("samples_save", "ControlNet"), 1_500_000, inbox=inbox)
    assert config_of(ONE).rules == JobRules(inbox=inbox)


def test_a_folder_of_wildcards_starts_from_the_configs_folder() -> None:
    config = config_of("wildcards: lists/wildcards\n" + ONE)
    assert config.rules.wildcards == config.spool.parent / "lists" / "wildcards"


def test_an_image_may_not_be_larger_than_can_be_looked_through() -> None:
    (messages,) = problems_of("max_image: 1000 MP\n" + ONE)
    assert messages.startswith("c.yaml:1:12: max_image must be at most 1.78957e+08")


def test_what_one_call_may_make_is_in_the_config() -> None:
    assert config_of(ONE).max_generation == 100_000_000
    assert config_of("max_generation: 4 MP\n" + ONE).max_generation == 4_000_000


def test_recovery_is_a_switch_and_one_cooldown_needs_no_list() -> None:
    config = config_of("recovery: off\ncooldown: 7\n" + ONE)
    assert (config.recovery, config.cooldown) == (False, (7,))


def test_webuis_keep_their_names_and_order() -> None:
    config = config_of(HEAD + "webuis:\n  b: {url: 'http://h:1/'}\n  a: {url: 'http://h:2'}\n")
    assert [(w.name, w.url) for w in config.webuis] == [("b", "http://h:1"), ("a", "http://h:2")]


def test_paths_start_from_the_configs_folder_and_programs_from_cwd() -> None:
    config = config_of(
        HEAD + "webuis:\n  a:\n    url: http://127.0.0.1:1\n    cwd: ../ui\n"
        "    command: venv/bin/python -u \"my launch.py\" '{port}'\n"
    )
    webui = config.webuis[0]
    assert config.spool == BASE / "spool"
    assert webui.cwd == BASE.parent / "ui"
    assert webui.command is not None
    assert webui.command[0] == str(BASE.parent / "ui/venv/bin/python")
    assert webui.command[1:3] == ("-u", "my launch.py")


def test_a_program_without_a_folder_is_left_to_the_search_path() -> None:
    config = config_of(HEAD + "webuis: {a: {url: 'http://h:1', command: [python3, '{port}']}}")
    assert config.webuis[0].command == ("python3", "1")


def test_the_password_is_not_in_the_configs_repr() -> None:
    text = HEAD + "webuis: {a: {url: 'http://h:1', username: me, password: hunter2}}"
    config = config_of(text)
    assert config.webuis[0].password == "hunter2"
    assert "hunter2" not in repr(config)


SIGNATURE = """signatures:
  - name: mine
    when: [{log: flux capacitor}]
    diagnosis: not usable
    cause: the capacitor is empty
    advice: Fill it.
    source: my own log
"""


def test_own_signatures_start_from_the_configs_folder_and_come_first(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(SIGNATURE)
    (tmp_path / "c.yaml").write_text("signatures: mine.yaml\n" + ONE)
    config = load_config(tmp_path / "c.yaml")
    assert config.signatures == tmp_path / "mine.yaml"
    mine, *others = load_signatures(config.signatures)
    assert mine.name == "mine"
    assert tuple(others) == load_signatures(None)


def test_mistakes_in_own_signatures_are_reported_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("signatures: mine.yaml\n" + ONE)
    with pytest.raises(ConfigError, match=r"mine.yaml: `signatures` in the config names this file"):
        load_config(tmp_path / "c.yaml")
    (tmp_path / "mine.yaml").write_text(SIGNATURE.replace("not usable", "broken"))
    with pytest.raises(ConfigError, match=r"mine.yaml:4:16: diagnosis must be one of bad request"):
        load_config(tmp_path / "c.yaml")


WEBUI = HEAD + "webuis:\n  one:\n    url: http://127.0.0.1:7860\n    "
REFUSED = {
    "no mapping": ("- a", "1:1: the config must be a mapping of `field: value`, not a list"),
    "no spool": (ONE.removeprefix("spool: spool\n"), "1:1: spool is missing"),
    "no webuis": (HEAD, "1:1: webuis is missing"),
    "webuis as list": (HEAD + "webuis: [a]", "3:9: webuis must be a mapping of `name: settings`"),
    "misspelt": ("setle: 2\n" + ONE, '1:1: unknown field "setle" in the config; did you mean "set'),
    "misspelt within": (WEBUI + "comand: x", '6:5: unknown field "comand" in webuis.one; did you'),
    "name within": (WEBUI + "name: x", '6:5: unknown field "name" in webuis.one; '),
    "misspelt health": (WEBUI + "health: {failure: 2}", '6:14: unknown field "failure" in health'),
    "no failures": (WEBUI + "health: {failures: 0}", "6:24: webuis.health.failures must be at le"),
    "twice": ("settle: 1\nsettle: 2\n" + ONE, '2:1: "settle" is there twice, first in line 1'),
    "bad unit": ("settle: 2 days\n" + ONE, "1:9: settle must be a duration such as 90, 1.5, 2 m"),
    "negative": ("cooldown: [5, -1]\n" + ONE, "1:15: cooldown must be a duration such as 90, 1.5"),
    "no cooldown": ("cooldown: []\n" + ONE, "1:11: cooldown must have at least 1 entries"),
    "zero": ("scan_interval: 0\n" + ONE, "1:16: scan_interval must be more than 0, not 0"),
    "bad size": ("min_free: much\n" + ONE, "1:11: min_free must be a size such as 500 MB or 1 GB"),
    "bad choice": ("watch: eyes\n" + ONE, '1:8: watch must be one of events, poll, not "eyes"'),
    "bad switch": ("recovery: perhaps\n" + ONE, "1:11: recovery must be true or false, not"),
    "bad name": (HEAD + "webuis: {A b: {url: 'http://h:1'}}", "3:10: webuis.name: a WebUI's name"),
    "no url": (HEAD + "webuis:\n  one:\n", "4:3: webuis.url is missing"),
    "url with path": (HEAD + "webuis: {a: {url: 'http://h:1/x'}}", "3:19: webuis.url: must be htt"),
    "url without port": (HEAD + "webuis: {a: {url: 'http://h'}}", "3:19: webuis.url: must be http"),
    "port too high": (HEAD + "webuis: {a: {url: 'http://h:70000'}}", "3:19: webuis.url: must be"),
    "same url": (
        HEAD + "webuis: {a: {url: 'http://localhost:1'}, b: {url: 'http://127.0.0.1:1/'}}",
        "3:9: webuis: a and b have the same url",
    ),
    "empty command": (WEBUI + "command: []", "6:14: webuis.command: is empty; remove the line"),
    "open quote": (WEBUI + "command: a 'b", "6:14: command must be a list of words, or one line "),
    "password alone": (WEBUI + "password: x", "4:3: webuis: username and password go together"),
    "max_rss alone": (
        WEBUI + "max_rss: 1 GB",
        "4:3: webuis: max_rss and max_calls have no effect without a command",
    ),
    "max_calls alone": (
        WEBUI + "max_calls: 9",
        "4:3: webuis: max_rss and max_calls have no effect",
    ),
    "max_calls 0": (WEBUI + "command: a\n    max_calls: 0", "7:16: webuis.max_calls"),
    "max_rss too much": (WEBUI + "command: a\n    max_rss: 101 %", "7:14: max_rss must be off,"),
    "unknown check": (ONE + "checks: {colour: warn}", '5:10: unknown field "colour" in checks'),
    "a list for a duration": ("settle: [1]\n" + ONE, "1:9: settle must be a duration such as 90"),
    "a misspelt command": (
        WEBUI + "comand: x\n    cwd: y",
        '6:5: unknown field "comand" in webuis',
    ),
    "unknown level": (ONE + "checks: {size: no}", "5:16: size must be one of fail, warn, off"),
    "cwd alone": (WEBUI + "cwd: x", "4:3: webuis: cwd and env have no effect without a command"),
}


def test_the_level_of_each_finding_is_set_separately() -> None:
    levels = config_of(ONE + "checks: {size: warn, seed: off}").checks.model_dump()
    assert levels == {**LEVELS, "size": "warn", "seed": "off"}


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [("off", None), ("2 GB", 2 * 10**9), ("80 %", 80 * 10**9), ("100%", 100 * 10**9)],
)
def test_max_rss_is_a_size_or_a_share_of_the_machines_memory(
    monkeypatch: pytest.MonkeyPatch, text: str, bytes_: int | None
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=100 * 10**9))
    webui = config_of(WEBUI + f"command: a\n    max_rss: {text}").webuis[0]
    assert webui.max_rss == bytes_


@pytest.mark.parametrize(("text", "says"), REFUSED.values(), ids=REFUSED)
def test_each_mistake_is_reported_with_its_place_and_what_is_allowed(text: str, says: str) -> None:
    if os.name == "nt" and text == REFUSED["open quote"][0]:
        pytest.skip("there a single quote is a letter like any other")
    messages = problems_of(text)
    assert any(line.startswith(f"c.yaml:{says}") for line in messages), messages


def test_all_mistakes_are_reported_at_once() -> None:
    messages = problems_of(
        "spool: a\nsetle: 1\nsettle: x\nmin_free: -1\n"
        "webuis:\n  a: {url: x, stall: 0}\n  b: {comand: y}\n"
    )
    places = [line.split(": ")[0].removeprefix("c.yaml:") for line in messages]
    assert places == ["1:1", "2:1", "3:9", "4:11", "6:12", "6:22", "7:3", "7:7"]


def test_a_syntax_error_is_a_config_error() -> None:
    assert problems_of("spool: a: b")[0].startswith("c.yaml:1:9: ")


def test_a_config_that_is_not_there_is_named_with_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="sdwatch init") as caught:
        load_config(tmp_path / "none.yaml")
    assert str(tmp_path / "none.yaml") in str(caught.value)


def test_a_folder_is_not_a_config(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)


def test_a_config_too_large_to_be_one_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    with open(path, "wb") as file:
        file.truncate(200_000_000)
    with pytest.raises(ConfigError, match="200,000,000 bytes"):
        load_config(path)


def test_a_config_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(ONE)
    assert load_config(path).spool == tmp_path / "spool"


@pytest.mark.posix_only("modes and owners of files")
def test_a_config_that_anybody_may_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(ONE)
    path.chmod(0o646)
    with pytest.raises(ConfigError, match="anybody may change this config"):
        load_config(path)


@pytest.mark.posix_only("modes and owners of files")
def test_a_config_that_anybody_may_put_another_in_place_of_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "open" / "c.yaml"
    path.parent.mkdir()
    path.write_text(ONE)
    path.parent.chmod(0o777)
    with pytest.raises(ConfigError, match="anybody may replace this config"):
        load_config(path)
    (tmp_path / "link.yaml").symlink_to(path)
    with pytest.raises(ConfigError, match="anybody may replace this config"):
        load_config(tmp_path / "link.yaml")
    path.parent.chmod(0o1777)  # as /tmp is: only its owner may take a file's name away
    assert load_config(path).spool == path.parent / "spool"


@pytest.mark.posix_only("modes and owners of files")
def test_a_config_that_its_group_may_write_is_read(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(ONE)
    path.chmod(0o664)
    assert load_config(path).spool == tmp_path / "spool"


@pytest.mark.posix_only("modes and owners of files")
def test_a_config_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(ONE)
    owner = path.stat().st_uid
    if owner == 0:  # as root: only root can give a file away
        os.chown(path, 4242, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(ConfigError, match="neither you nor root"):
        load_config(path)


# -- outputs


def test_outputs_are_in_the_spool_and_off_unless_the_config_says_so() -> None:
    config = config_of(ONE)
    assert config.output_folder == BASE / "spool" / "outputs"
    assert config.outputs.name == ""
    assert config.output_format is None


def test_the_owner_names_the_folder_the_name_and_the_format() -> None:
    text = "outputs: {folder: ../pictures, name: '{date}/{seed}', format: webp}\n"
    config = config_of(ONE + text)
    assert config.output_folder == BASE.parent / "pictures"
    assert config.outputs.name == "{date}/{seed}"
    assert config.output_format == "webp"


@pytest.mark.parametrize(
    ("outputs", "problem"),
    [
        ("{folder: spool/inbox/a}", "5:19: outputs.folder is in inbox/"),
        ("{folder: spool/done}", "5:19: outputs.folder is in done/"),
        ("{folder: spool}", "5:19: outputs.folder is the spool"),
        ("{folder: state/x}", "5:19: outputs.folder is state:, which is private"),
        ("{name: '{sead}'}", "5:17: name must be off, or a name such as {date}"),
        ("{name: ../x}", "5:17: name must be off, or a name such as {date}"),
        ("{format: gif}", "5:19: format must be one of as_sent, png, jpeg, webp"),
    ],
)
def test_a_wrong_setting_of_outputs_is_named_at_its_place(outputs: str, problem: str) -> None:
    assert any(problem in line for line in problems_of(f"{ONE}outputs: {outputs}\n"))
