"""A job file with a mistake: what is written about it, for people and for programs, does not have
the prompt that the mistake is made with."""

from __future__ import annotations

import base64
import json
import logging
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from sdwatch.cli.shared.log_files import set_up_logging
from sdwatch.monitor.once import MonitorEnd
from sdwatch.simulator.echo import ECHOES
from sdwatch.system.state_folder import json_log
from tests.spool.spools import picture
from tests.support.helpers import wait_until
from tests.support.monitored import Monitored, has, job, journal, monitored

TEXT = "a purple hippopotamus, sleeping under seven silver moons"
WORDS = ("purple", "hippopotamus", "sleeping", "seven", "silver", "moons")
QUIET = f'prompt: "{TEXT}"\n'

MISTAKES = {
    "a-number": f"{QUIET}steps: {TEXT}\n",
    "a-seed": f"{QUIET}seed: {TEXT}\n",
    "a-switch": f"{QUIET}tiling: {TEXT}\n",
    "a-priority": f"{QUIET}priority: {TEXT}\n",
    "a-mapping": f"{QUIET}override_settings: {TEXT}\n",
    "scripts": f"{QUIET}alwayson_scripts: {TEXT}\n",
    "a-long-name": f"{QUIET}name: {TEXT * 9}\n",
    "a-list-for-a-prompt": f"prompt: [{TEXT}]\n",
    "a-mapping-for-a-prompt": f"prompt: {{{TEXT}: 1}}\n",
    "nothing-but-text": f"{TEXT}\n",
    "a-field": f"{QUIET}{TEXT}: 5\n",
    "a-field-twice": f"{QUIET}{TEXT}: 5\n{TEXT}: 6\n",
    "a-field-of-it": f"stages:\n  - txt2img:\n      {TEXT}: 5\n",
    "a-stage": f"stages:\n  - {TEXT}\n",
    "a-stages-kind": f"stages:\n  - {TEXT}: {{steps: 3}}\n",
    "a-stages-fields": f"stages:\n  - txt2img: {TEXT}\n",
    "stages": f"stages: {TEXT}\n",
    "an-image": f"stages:\n  - img2img: {{init_images: '{TEXT}', prompt: a}}\n",
    "an-image-elsewhere": f"stages:\n  - img2img: {{init_images: '../{TEXT}', prompt: a}}\n",
    "an-image-by-url": f"stages:\n  - img2img: {{init_images: 'http://{TEXT}', prompt: a}}\n",
    "indented-too-little": f"prompt: |\n{TEXT}\nsteps: 3\n",
    "indented-too-much": f"prompt: a castle\n  {TEXT}: by night\nsteps: 3\n",
    "indented-below-it": f"stages:\n  - txt2img:\n    prompt: {TEXT}\n",
    "a-colon": f"prompt: {TEXT}, style: oil\n",
    "an-open-quote": f'prompt: "{TEXT}\nsteps: 3\n',
    "behind-a-quote": f'prompt: "a castle" {TEXT}\n',
    "an-open-bracket": f"prompt: [{TEXT}\nsteps: 3\n",
    "a-tag": "prompt: !purple!hippopotamus silver moons\n",
    "an-alias": "prompt: *purple hippopotamus\n",
    "an-anchor": "prompt: &purple hippopotamus\n",
    "a-directive": "%purple hippopotamus\n---\nprompt: silver\n",
    "an-escape": f'prompt: "\\q {TEXT}"\n',
    "a-sign": f"prompt: @{TEXT}\n",
    "a-tab": f"prompt: a castle\n\t{TEXT}: 3\n",
    "no-utf8": f"prompt: {TEXT} \udce9\n",
    "two-documents": f"prompt: a\n---\n{TEXT}\n",
}
WARNED = job("a castle") + f"negative_prompt: blurry #{TEXT}\n"


@dataclass(frozen=True)
class Night:
    """What a monitor made of them, and what it logged, as for `sdwatch run`."""

    spool: Monitored
    log: Path
    warned: list[str]
    statuses: Collection[str] = ()
    """Each status.json of that time."""

    @property
    def logged(self) -> list[str]:
        """The lines of the log, and each text in the lines of JSON as it was before they were
        written."""
        lines = self.log.read_text(encoding="utf-8").splitlines()
        entries = json_log(self.log).read_text(encoding="utf-8").splitlines()
        return [*lines, *entries, *(str(json.loads(entry)) for entry in entries)]

    def run_of(self, name: str) -> Path:
        (run,) = self.spool.spool.glob(f"failed/*-{name}-????")
        return run


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    logger = logging.getLogger("sdwatch")
    before, level = list(logger.handlers), logger.level
    settings = {"unfinished_timeout": 1}  # some look unfinished, and nobody is to finish them
    with monitored(tmp_path_factory.mktemp("night"), settings=settings) as spool:
        warned: list[str] = []
        log = spool.state / "sdwatch.log"
        set_up_logging(log, 10_000_000, lambda notice: warned.append(str(notice)))
        try:
            for name, text in MISTAKES.items():
                spool.drop(f"{name}.yaml", text.encode("utf-8", "surrogateescape"))
            spool.drop("warned.yaml", WARNED)
            spool.start(once=True)
            assert spool.ended() is MonitorEnd.EMPTY
        finally:
            for handler in set(logger.handlers) - set(before):
                logger.removeHandler(handler)
                handler.close()
            logger.setLevel(level)
        yield Night(spool, log, warned)


def assert_silent(text: str) -> None:
    assert [word for word in WORDS if word in text.lower()] == [], text


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_with_a_prompt_is_explained_without_it(night: Night, name: str) -> None:
    run = night.run_of(name)
    why = (run / "WHY.txt").read_text(encoding="utf-8")
    assert f"{name}.yaml:" in why
    assert_silent(why)
    assert_silent((run / "error.json").read_text(encoding="utf-8"))
    assert_silent((run / "journal.jsonl").read_text(encoding="utf-8"))
    dropped = MISTAKES[name].encode("utf-8", "surrogateescape")
    assert (run / "job.yaml").read_bytes() == dropped


@pytest.mark.parametrize("name", [*MISTAKES, "warned"])
def test_the_monitors_log_and_reports_do_not_have_it(night: Night, name: str) -> None:
    mentioning = [
        line for line in [*night.logged, *night.spool.told, *night.warned] if name in line
    ]
    assert mentioning
    assert_silent("\n".join(mentioning))


def test_the_log_as_a_whole_does_not_have_it(night: Night) -> None:
    assert len(night.spool.failed()) == len(MISTAKES)
    assert len(night.spool.done()) == 1
    assert_silent("\n".join(night.logged))
    assert_silent("\n".join([*night.spool.told, *night.warned]))


def test_a_webui_that_lives_on_has_the_prompts_of_before_in_its_log(tmp_path: Path) -> None:
    """The monitor that adopts it has never seen them."""
    echo = "- {fault: structured-500, when: {prompt: purple}, times: always}\n"
    faults = echo + "- {fault: structured-500, when: {prompt: cursed}, times: always}\n"
    with monitored(tmp_path, faults=faults, webui={"leave_running": True}) as spool:
        spool.drop("first.yaml", job(TEXT))
        spool.start(once=True)
        assert spool.ended() is MonitorEnd.EMPTY
        log = next((spool.state / "webui-sim").glob("*.stdout.log"))
        with log.open("a") as file:
            file.write(f"Prompt: {TEXT}\n")
        spool.write_webui(leave_running=False)
        spool.drop("second.yaml", job("a cursed castle"))
        spool.start(once=True)
        assert spool.ended() is MonitorEnd.EMPTY
        (second,) = spool.spool.glob("failed/*-second-????")
        tail = (second / "webui_tail.log").read_text(encoding="utf-8")
        assert "Prompt: <text" in tail
        for path in second.rglob("*"):
            if path.is_file():
                assert_silent(path.read_text(encoding="utf-8", errors="replace"))


def test_a_run_that_waits_to_resume_has_its_prompt_in_no_evidence_of_another(
    tmp_path: Path,
) -> None:
    """Its WebUI was adopted, and the log still has what an earlier monitor sent."""
    faults = "- {fault: structured-500, when: {prompt: cursed}, times: always}\n"
    with monitored(tmp_path, faults=faults, webui={"leave_running": True}) as spool:
        spool.drop("a-cursed.yaml", job("a cursed castle", priority=9, steps=200))
        spool.drop("b-purple.yaml", job(TEXT))
        spool.start_process()
        wait_until(lambda: len(spool.working()) == 2 and has(spool.working, "call_started")(), 60)
        spool.kill()
        log = next((spool.state / "webui-sim").glob("*.stdout.log"))
        with log.open("a") as file:
            file.write(f"Prompt: {TEXT}\n")
        spool.write_webui(leave_running=False)
        spool.start(once=True)
        assert spool.ended() is MonitorEnd.EMPTY
        (cursed,) = spool.failed()
        for path in cursed.rglob("*"):
            if path.is_file():
                assert_silent(path.read_text(encoding="utf-8", errors="replace"))


JAPANESE = "雪の中の青い城と七つの銀の月の下で眠る紫の河馬が静かに夢を見ている夜の風景を描いた油絵"
FIFTY = "".join(chr(0x4E00 + 37 * number) for number in range(72))
SPOKEN = "a purple hippopotamus sleeping under seven silver moons, glittering velvet marzipan"
PROMPTS = {"Japanese": JAPANESE, "without a pattern": FIFTY, "of words": SPOKEN}
SHORTEST = {"Japanese": 4, "without a pattern": 4, "of words": 8}
"""Characters of a prompt that are distinguishable from chance; words have their own test."""

WAYS = 2 * len(ECHOES)
"""Each in a text, as proxies answer, and in the JSON of the kind."""
ECHOED = {name: range(WAYS) if name == "of words" else range(len(ECHOES)) for name in PROMPTS}
"""The ways in which each prompt is repeated: how the others are found in JSON is no different."""


def forms_of(piece: str) -> set[str]:
    """As it may stand in a file: plain, and in each escape."""
    return {
        piece,
        quote(piece),
        json.dumps(piece)[1:-1],
        "".join(f"\\u{ord(sign):04x}" for sign in piece),
        "".join(f"&#{ord(sign)};" for sign in piece),
        base64.b64encode(piece.encode()).decode().rstrip("=")[:-1],
    }


@pytest.fixture(scope="module")
def echoing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    """A WebUI that repeats each prompt in each way, in its reply and in its log."""
    logger = logging.getLogger("sdwatch")
    before, level = list(logger.handlers), logger.level
    faults = "".join(
        f"- {{fault: echo-500, way: {way}, when: {{stage: txt2img, prompt: 'q{way}q'}}, "
        "times: always}\n"
        for way in range(WAYS)
    )
    with monitored(tmp_path_factory.mktemp("echoing"), faults=faults) as spool:
        warned: list[str] = []
        log = spool.state / "sdwatch.log"
        set_up_logging(log, 10_000_000, lambda notice: warned.append(str(notice)))
        try:
            for number, (name, prompt) in enumerate(PROMPTS.items()):
                for way in ECHOED[name]:
                    spool.drop(f"job-{number}-{way}.yaml", job(f"q{way}q {prompt}"))
            with read_again(spool.spool / "status.json") as statuses:
                spool.start(once=True)
                assert spool.ended(timeout=300) is MonitorEnd.EMPTY
        finally:
            for handler in set(logger.handlers) - set(before):
                logger.removeHandler(handler)
                handler.close()
            logger.setLevel(level)
        yield Night(spool, log, warned, statuses)


@contextmanager
def read_again(path: Path) -> Iterator[set[str]]:
    """Collect what a file says, again and again."""
    texts: set[str] = set()
    over = threading.Event()

    def read() -> None:
        while not over.wait(0.05):
            with suppress(OSError):
                texts.add(path.read_text(encoding="utf-8"))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield texts
    finally:
        over.set()
        reader.join()


@pytest.mark.parametrize(
    ("what", "way"), [(name, way) for name, ways in ECHOED.items() for way in ways]
)
def test_no_piece_of_a_prompt_is_in_the_evidence_however_it_was_repeated(
    echoing: Night, what: str, way: int
) -> None:
    prompt, size = PROMPTS[what], SHORTEST[what]
    number = list(PROMPTS).index(what)
    run = echoing.run_of(f"job-{number}-{way}")
    names = [path for path in run.iterdir() if path.is_file()]
    evidence = [path for path in names if path.name not in ("job.yaml", "run.json")]
    assert {"WHY.txt", "error.json", "journal.jsonl", "webui_tail.log"} <= {
        p.name for p in evidence
    }
    for path in evidence:
        text = path.read_text(encoding="utf-8").lower()
        for at in range(len(prompt) - size + 1):
            for form in forms_of(prompt[at : at + size]):
                assert form.lower() not in text, (path.name, prompt[at : at + size])
        if what == "of words":
            assert_silent(text)


def test_no_piece_of_a_prompt_is_in_the_log_or_the_status(echoing: Night) -> None:
    assert any('"attempt"' in each or "txt2img" in each for each in echoing.statuses), "of a call"
    text = "\n".join([*echoing.statuses, *echoing.logged, *echoing.spool.told, *echoing.warned])
    assert_silent(text)
    for prompt in (JAPANESE, FIFTY):
        for at in range(len(prompt) - 3):
            assert prompt[at : at + 4] not in text


POINTS = {
    "a-matrix": """\
prompt: a ${animal} by night
matrix: {animal: [owl, purple hippopotamus], steps: [2, 3], sampler_name: [Euler, Euler a]}
""",
    "vars": """\
vars: {animal: purple hippopotamus}
stages:
  - txt2img: {prompt: "a ${animal}"}
repeat: 2
""",
    "its-own-field": """\
matrix: {negative_prompt: [silver moons, purple]}
prompt: a castle
""",
    "a-wildcard": """\
prompt: a __animal__ ${where}
matrix: {where: [at sea, under silver moons]}
""",
    "a-list": """\
prompts_from: prompts.txt
""",
    "an-image": """\
for_each: '*.png'
stages:
  - img2img: {prompt: "a ${image.stem}"}
""",
    "an-exclude": """\
prompt: a ${animal}
matrix: {animal: [owl, silver moons], exclude: {animal: purple hippopotamus}}
""",
}
"""Jobs with points: short values, which a message would show if they were no part of a prompt."""


@pytest.fixture(scope="module")
def pointed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitored]:
    root = tmp_path_factory.mktemp("pointed")
    (root / "lists").mkdir()
    (root / "lists" / "animal.txt").write_text("purple hippopotamus\nseven silver moons\n")
    faults = "".join(
        f"- {{fault: structured-500, when: {{prompt: {word}}}, times: always}}\n"
        for word in ("purple", "silver")
    )
    settings = {"wildcards": str(root / "lists"), "cooldown": [0.05]}
    with monitored(root, faults=faults, settings=settings) as spool:
        for name, text in POINTS.items():
            if name in ("a-list", "an-image"):
                folder = root / name
                folder.mkdir()
                (folder / "job.yaml").write_text(text)
                (folder / "prompts.txt").write_text("an owl\npurple hippopotamus\n")
                if name == "an-image":
                    for stem in ("owl", "purple hippopotamus"):
                        (folder / f"{stem}.png").write_bytes(picture())
                folder.rename(spool.inbox / name)
            else:
                spool.drop(f"{name}.yaml", text)
        spool.start(once=True)
        assert spool.ended(timeout=300) is MonitorEnd.EMPTY
        yield spool


@pytest.mark.parametrize("name", POINTS)
def test_what_a_point_puts_into_a_prompt_is_in_no_evidence(pointed: Monitored, name: str) -> None:
    (run,) = pointed.spool.glob(f"*/*-{name}-????")
    own = ("job.yaml", "run.json", "contact_sheet.jpg")
    evidence = [path for path in run.iterdir() if path.is_file() and path.name not in own]
    assert "journal.jsonl" in [path.name for path in evidence]
    for path in evidence:
        assert_silent(path.read_text(encoding="utf-8"))


def test_other_values_of_a_point_tell_it_apart(pointed: Monitored) -> None:
    (run,) = pointed.spool.glob("failed/*-a-matrix-????")
    for name in ("WHY.txt", "error.json"):
        text = (run / name).read_text(encoding="utf-8").replace("\\", "")
        assert 'animal = a text of 19 characters, steps = "2", sampler_name = "Euler a"' in text
    values = [r["values"] for r in journal(run, "call_finished")]
    assert {"steps": "3", "sampler_name": "Euler a"} in values
    made = json.loads((run / "run.json").read_text(encoding="utf-8"))["calls"]
    assert {"animal": "owl", "steps": "3", "sampler_name": "Euler a"} in [
        call.get("values") for call in made
    ]


def test_the_secrets_of_the_config_are_in_nothing_that_is_written(tmp_path: Path) -> None:
    """The WebUI prints its command line and COMMANDLINE_ARGS when it starts."""
    users = tmp_path / "users.txt"
    users.write_text("anna:fileSecret77,otto:otherSecret88\n")
    args = "--gradio-auth anna:gradioPass1,otto:gradioPass2 --hf-token hf_notAToken"
    args += " --ngrok=ngrokValue9"
    env = {
        "COMMANDLINE_ARGS": f"{args} --gradio-auth-path {users} --tls-keyfile /etc/tls/private.pem",
        "OPENAI_API_KEY": "openValueOfGold",
    }
    secrets = ("gradioPass", "hf_notA", "ngrokValue", "apiPass", "private.pem", "openValue")
    faults = (
        "- {fault: exit-on-start, when: {start: 2}}\n"
        "- {fault: sigkill-mid-step, when: {prompt: cursed}, times: always}\n"
    )
    logger = logging.getLogger("sdwatch")
    before = list(logger.handlers)
    with monitored(
        tmp_path / "spool-of-it",
        flags=("--auth", "user:apiPass33"),
        faults=faults,
        webui={"env": env, "username": "user", "password": "apiPass33"},
    ) as spool:
        log = spool.state / "sdwatch.log"
        set_up_logging(log, 10_000_000, lambda _: None)
        try:
            spool.drop("first.yaml", job("a cursed castle"))
            spool.start(once=True)
            spool.ended()
        finally:
            for handler in set(logger.handlers) - set(before):
                logger.removeHandler(handler)
                handler.close()
        printed = "".join(p.read_text() for p in spool.state.glob("webui-sim/*.stdout.log"))
        assert [secret for secret in secrets[:5] if secret not in printed] == []
        written = [path for path in spool.spool.rglob("*") if path.is_file()]
        tails = [path for path in written if path.name.startswith("webui_tail")]
        assert any("<secret>" in path.read_text(encoding="utf-8") for path in tails)
        for path in (*written, log, json_log(log)):
            text = path.read_text(encoding="utf-8", errors="replace")
            assert [secret for secret in secrets if secret in text] == [], path.name
