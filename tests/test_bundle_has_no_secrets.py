"""A bundle is made for others: whatever echoed a prompt, and whoever's machine it was, nothing of
that is in any byte of it; and what a maintainer needs is."""

from __future__ import annotations

import base64
import getpass
import io
import json
import os
import socket
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from sdwatch import __version__
from sdwatch.config import Config
from sdwatch.config_file import parse_config
from sdwatch.known_signatures import builtin_signatures
from sdwatch.policy.privacy.log_for_others import log_for_others
from sdwatch.spool.bundle import bundle, tails_for_others
from sdwatch.stages.run_end import RunEnd
from sdwatch.webui.http.reply import error_for
from sdwatch.webui.process.host_snapshot import HostSnapshots
from tests.support.fakes import FakeClient, FakeProcess, Workplace, picture

PROMPT = (
    "a Purple Hippopotamus under (seven silver moons:1.3), {sleeping|dreaming},\n"
    'second line with "quoted velvet" and __animals__, <lora:secretstyle_v2:0.8>, '
    "雪の中の青い城, naïve façade"
)
NEGATIVE = "ugly crocodile fingers, blurry watermark"
STYLE = "nocturnal gouache"
NESTED = "glittering eyelashes of marzipan"
NEIGHBOUR = "the neighbour's ginger submarine"
WORDS = (
    *("hippopotamus", "seven silver", "sleeping|dreaming", "quoted velvet", "__animals__"),
    *("secretstyle_v2", "雪の中の青い城", "façade", "fa\\u00e7ade", "crocodile", "watermark"),
    *("gouache", "eyelashes", "marzipan", "ginger submarine", "hippo", "velvet", "dreaming"),
    *("JTIwUHVycGxl", "UHVycGxl", "5375727065", "%20moons", "\\u0048", "secretstyle"),
    *("夜の雪原", "三人の騎士", "\\u591c\\u306e", "zeppelin", "cathedrals", "gargoyles"),
)
SECRETS = (
    *("hf_AbCdEfGhIjKlMnOpQr", "sk-proj-abcdefghij123456", "ghp_0123456789abcdefABCD"),
    *("s3cret-passw0rd", "bearer-token-0815", "env-value-of-gold", "c2VjcmV0OnBhc3M=", "api-user"),
    *("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc", "hunter2", "civitai-key-99"),
    *("ngrokTok88", "hushhush", "tokvalue5566", "awssecret", "sigvalue00", "credvalue55"),
    *("tokenonly99", "passphrval", "openkeyval", "apiauthpw99", "curlpw6677", "sshpw7788"),
    *("AIzaSy", "npm_Ab", "sk_live_", "YXBpLXVzZXI6czNjcmV0", "192.168.178.23", "00:1a:2b"),
    *("ab12cd34ef56", "RENDERBOX7", "otto.meier", "pw9", "4711", "iVBORw", "89504e47", "IHDR"),
    *("mueller-home", "home.de", "wolke", "cirrus", "2a02", "810b", "5678::"),
    *("gradioGold1", "secondGold2", "civitGold3", "keyfileGold4", "argsGold5", "envGold6"),
)
NAMES = ("rosalinde", "Kunigunde Meier", "Kunigunde", "renderbox-of-otto")
HOMES = (
    *("/home/rosalinde", "/Users/rosalinde", "C:\\\\Users\\\\rosalinde", "C:/Users/rosalinde"),
    "C:\\\\Users\\\\Kunigunde Meier",
)
INBOX = ("lieselotte", "wedding of anna", "wedding-of-anna", "anna", "mueller", "wedding")
PARAMETERS = (
    f"{PROMPT}\nNegative prompt: {NEGATIVE}\nSteps: 20, Sampler: Euler a, CFG scale: 7, "
    "Seed: 4242, Size: 512x768, Model hash: abcdef0123, Model: dreamy"
)
JAPANESE = "夜の雪原に立つ青い城と三人の騎士が月の光の中で静かに歌っている" * 3
CAPTIONED = "an Ochre Zeppelin moored over drowned cathedrals"
LATE = "pewter gargoyles"
ALONE = ("api-user", "RENDERBOX7", "pw9", "4711", "hushhush", "wolke")
"""What nothing in a log distinguishes from other words: a person has to see it."""

SHORT = {"PIN": "4711", "SHORT": "pw9"}
ENV = {"COMMANDLINE_ARGS": "--api --openai-api-key argsGold5", "SD_AUTH": "envGold6"}
JOB: dict[str, Any] = {
    "name": "rosalinde's birthday",
    "stages": [
        {
            "txt2img": {
                "prompt": PROMPT,
                "negative_prompt": f"{NEGATIVE}, {'soft, ' * 8000}{LATE}",
                "styles": [STYLE],
                "width": 512,
                "height": 768,
                "steps": 20,
                "sampler_name": "Euler a",
                "alwayson_scripts": {
                    "ADetailer": {"args": [True, {"ad_prompt": NESTED}]},
                    "Regional Prompter": {"args": [{CAPTIONED: 1}, JAPANESE]},
                },
            }
        }
    ],
}
TRACEBACK = f"""\
*** Error completing request
*** Arguments: ('task(abc)', {PROMPT!r}, {NEGATIVE!r}, 20, 'Euler a', {json.dumps(PROMPT)})
    Traceback (most recent call last):
      File "/home/rosalinde/stable-diffusion-webui/modules/processing.py", line 847, in process
        res = process_images_inner(p)
      File "C:\\\\Users\\\\Kunigunde Meier\\\\forge\\\\sd_samplers.py", line 12, in sample
        raise OutOfMemoryError
    torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB
---
"""
OWN_TRACEBACK = """\
Traceback (most recent call last):
  File "/home/rosalinde/hippopotamus/sdwatch/monitor/runs.py", line 173, in run
    ending = runner.run_to_end(self._spool)  # velvet
  File "/usr/lib/python3.12/threading.py", line 1045, in run
    raise KeyError
KeyError: 'velvet marzipan'
"""
LOG = f"""\
Python 3.10.6 (main) on renderbox-of-otto
Launching with --api --api-auth api-user:s3cret-passw0rd --hf-token hf_AbCdEfGhIjKlMnOpQr
HF_TOKEN=hf_AbCdEfGhIjKlMnOpQr OPENAI_API_KEY: "sk-proj-abcdefghij123456"
fetching https://rosalinde:hunter2@example.org/model?token=civitai-key-99&x=1
{{"password": "s3cret-passw0rd", "user": "rosalinde", "home": "C:\\\\Users\\\\rosalinde\\\\x"}}
Authorization: Bearer bearer-token-0815
header {{'Authorization': 'Basic c2VjcmV0OnBhc3M='}} eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc
git clone with ghp_0123456789abcdefABCD by Rosalinde and KUNIGUNDE MEIER
loaded C:/Users/rosalinde/models/x.safetensors and C:\\Users\\Kunigunde Meier\\models\\y.safetensors
loaded /Users/rosalinde/Library/z.safetensors in 3.2s
{PARAMETERS}
{json.dumps({"prompt": PROMPT, "negative_prompt": NEGATIVE, "parameters": PARAMETERS})}
the following part of your input was truncated: ['purple hippopotamus under seven silver moons']
Prompt: something that nobody told us about
{NEIGHBOUR}
"""


GLUED = ("hippopotamus", "Velvet", "crocodile", "MARZIPAN", "submarine")
WORDS_OF_IT = PROMPT.replace(",", "").split()
PNG = picture(3)
ECHOES = "\n".join(
    [
        f"tokens: {[word.lower() + '</w>' for word in WORDS_OF_IT]}",
        *(f"  tok {number} {word}" for number, word in enumerate(WORDS_OF_IT)),
        f"cut: {PROMPT[:20]} and {PROMPT[5:28]} and {PROMPT[-20:]}",
        f"in the address: {quote(PROMPT)} or {quote_plus(PROMPT)}",
        f"encoded: {base64.b64encode(PROMPT.encode()).decode()}",
        f"cut and encoded: {base64.b64encode(PROMPT[2:60].encode()).decode()[:40]}",
        f"in hex: {PROMPT.encode().hex()}",
        f"escaped: {''.join(f'{chr(92)}u{ord(c):04x}' for c in PROMPT)}",
        f"saved to outputs/00001-4242-{PROMPT[:30].replace(' ', '_')}.png",
        *(f"glued: masterpiece1{word} 00001{word}.png v2{word} =20{word}" for word in GLUED),
        f"{'x ' * 2500}{JAPANESE}{' x' * 2500}",  # in a line that is cut
        f"keys: {{{CAPTIONED!r}: 1}} {CAPTIONED.upper()} {json.dumps(JAPANESE)} {quote(JAPANESE)}",
        f"one to a line: {chr(10).join(CAPTIONED.split())}",
        f"late: {LATE} {LATE.upper()} {base64.b64encode(LATE.encode()).decode()}",
        f"image: {base64.b64encode(PNG).decode()[:150]} or {PNG[:40].hex()} or {PNG[:60]!r}",
    ]
)
DOORS = """\
Authorization: Token tokvalue5566aa
AWS_SECRET_ACCESS_KEY=awssecret/value+1234567
https://s3.example.org/x?X-Amz-Signature=sigvalue0011&X-Amz-Credential=credvalue5566
https://tokenonly99@github.com/x.git
logged in as otto.meier@example.org (password was: hunter2hunter2), passphrase=passphrval3344
export OPENAI_KEY=openkeyval6655; curl -u joe:curlpw6677 x; sshpass -p sshpw7788 ssh y
Namespace(api_auth='joe:apiauthpw9911', share_user='kunigunde')
config: YXBpLXVzZXI6czNjcmV0LXBhc3N3MHJk, PIN 4711, short pw9
AIzaSyA1234567890abcdefghijklmnopqrstuv npm_AbCdEf1234567890 sk_live_abcdefgh12345678
peer 192.168.178.23 (00:1a:2b:3c:4d:5e), https://ab12cd34ef56.gradio.live, 127.0.0.1:7860 answers
\\\\RENDERBOX7\\share\\x and \\\\RENDERBOX7\\Users\\rosalinde\\x
tunnel ngrokTok88 of hushhush
users gradioGold1 secondGold2, {'anna': 'gradioGold1'} GRADIOGOLD1, keys civitGold3/keyfileGold4
got argsGold5 and envGold6, Launching with --openai-api-key argsGold5 --gradio-auth otto:secondGold2
running on renderbox7.lan, http://renderbox7:7860
mails of api-user@mueller-home.de and lieselotte@mueller-home.de
at http://sd.mueller-home.de:7860, ssh://x@wolke.example.com and http://cirrus:80/x
HTTPSConnectionPool(host='wolke.example.com', port=443), see https://github.com/x/issues/1
2a02:810b:1234:5678::1:54321 - "GET /" 200, http://[2a02:810b:1234:5678::1]:7860 at 06:52:43
"""


def echoing(status: int, value: dict[str, Any]) -> Any:
    return error_for(status, json.dumps(value).encode(), "txt2img", "txt2img")


ANSWERS = {
    "a 500 that echoes": (
        echoing(500, {"error": "RuntimeError", "message": f"bad {PROMPT} in /home/rosalinde/x.py"}),
    ),
    "an infotext in a 500": (echoing(500, {"error": "ValueError", "message": PARAMETERS}),),
    "a 500 that is no JSON": (
        error_for(500, f"<h1>{JAPANESE}</h1> {LATE}".encode(), "txt2img", "txt2img"),
    ),
    "a 422 with its input": (
        echoing(
            422,
            {"detail": [{"loc": ["body", "steps"], "msg": f"no {NEGATIVE}", "input": PROMPT}]},
        ),
    ),
    "a 422 of a script": (echoing(422, {"detail": f"Script '{NESTED}' not found"}),),
}


OUT_OF_MEMORY = echoing(
    500, {"error": "OutOfMemoryError", "message": f"CUDA out of memory. {PROMPT}"}
)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    webui = {
        "url": "http://renderbox-of-otto:7860",
        "command": [
            *("python", "launch.py", "--api-auth", "api-user:s3cret-passw0rd", "--port", "7860"),
            *("--ngrok", "ngrokTok88", "--share-name=hushhush"),
            *("--gradio-auth", "anna:gradioGold1,otto:secondGold2", "--civitai-key=civitGold3"),
            *("--tls-keyfile-password", "keyfileGold4"),
        ],
        "cwd": "/home/rosalinde/stable-diffusion-webui",
        "env": {"HF_TOKEN": "hf_AbCdEfGhIjKlMnOpQr", "OTHER": "env-value-of-gold", **SHORT, **ENV},
        "username": "api-user",
        "password": "s3cret-passw0rd",
        "health": {"interval": 3},
    }
    settings = {"spool": str(tmp_path / "spool"), "state": "state", "webuis": {"forge": webui}}
    parsed = parse_config(json.dumps(settings).encode(), "sdwatch.yaml", tmp_path)
    # As it is on Windows; elsewhere a config with such a path is refused.
    return parsed.model_copy(update={"state": tmp_path / "C:\\Users\\rosalinde\\state"})


CONFIG_FILE = Path(
    r"C:\Users\rosalinde\my pictures\sdwatch.yaml"
    if os.name == "nt"
    else "/home/rosalinde/my pictures/sdwatch.yaml"
)


@pytest.fixture(autouse=True)
def _at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "renderbox-of-otto.example.org")
    monkeypatch.setattr(getpass, "getuser", lambda: "rosalinde")


def failed_run(tmp_path: Path, answers: tuple[Any, ...]) -> tuple[Path, Path]:
    """A run that failed with these answers, and the monitor's log of it."""
    place = Workplace(tmp_path)
    place.spool = replace(place.spool, config=CONFIG_FILE)
    neighbour = place.claimed(f'prompt: "{NEIGHBOUR}"\nsteps: 1\n')
    assert place.runner(neighbour, FakeClient()).run_to_end(place.spool) is RunEnd.DONE
    job = json.dumps(JOB, ensure_ascii=False)
    run = place.claimed(job, name="lieselotte/wedding of Anna Mueller.yaml")
    printed = f"{LOG}{ECHOES}\n{DOORS}"
    process = FakeProcess(tail={"stdout": printed, "stderr": LOG + TRACEBACK + LOG})
    host_snapshots = HostSnapshots(place.clock, {"state": tmp_path})
    runner = place.recovering(run, FakeClient(*answers), process, host_snapshots=host_snapshots)
    assert runner.run_to_end(place.spool) is RunEnd.FAILED
    log = tmp_path / "sdwatch.log"
    log.write_text(
        f"2026-11-23T06:52:43.123Z INFO sdwatch.monitor: {run.run_id}: failed: {LOG}\n{TRACEBACK}\n"
        f"{OWN_TRACEBACK}"
        "2026-11-23T06:52:43.123Z INFO sdwatch.monitor: 20261123-065243.123-other-3f2a: begins\n",
        encoding="utf-8",
    )
    return place.failed(), log


def members_of(packed: bytes) -> dict[str, str]:
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name).decode() for name in archive.namelist()}


def made(tmp_path: Path, config: Config, answers: tuple[Any, ...]) -> dict[str, str]:
    """The members of the bundle about a run that failed with these answers."""
    run, log = failed_run(tmp_path, answers)
    return members_of(bundle(run, config, (tmp_path / "none.log", log)))


def found_in(members: dict[str, str], secrets: tuple[str, ...]) -> list[tuple[str, str]]:
    return [
        (name, secret)
        for name, text in members.items()
        for secret in secrets
        if secret.lower() in text.lower()
    ]


@pytest.mark.parametrize("what", ANSWERS)
def test_nothing_of_a_prompt_a_secret_or_a_person_is_in_any_member(
    tmp_path: Path, config: Config, what: str
) -> None:
    members = made(tmp_path, config, ANSWERS[what])
    assert found_in(members, WORDS) == []
    assert found_in(members, SECRETS) == []
    assert found_in(members, (*NAMES, *HOMES)) == []
    assert found_in(members, INBOX) == []
    assert found_in(members, ("something that nobody told us", "dreamy")) == []
    assert found_in(members, (str(tmp_path), "-other-3f2a")) == []


def test_the_bundle_has_what_a_maintainer_needs(tmp_path: Path, config: Config) -> None:
    members = made(tmp_path, config, (OUT_OF_MEMORY,))
    assert set(members) == {
        *("README.txt", "journal.jsonl", "error.json", "tracebacks.json", "config.json"),
        "versions.json",
    }
    records = [json.loads(line) for line in members["journal.jsonl"].splitlines()]
    assert [record["event"] for record in records][:4] == [
        *("claimed", "planned", "call_started", "evidence"),
    ]
    failed = [record for record in records if record["event"] == "call_failed"]
    assert [one["action"] for one in failed] == ["restart", "self-test"]
    assert failed[0] | {"at": "", "ground": "", "failure": "", "seconds": 0} == {
        **{"at": "", "event": "call_failed", "call": "1.1", "diagnosis": "out of memory"},
        **{"error": "WebUIServerError", "status": 500, "raised": "OutOfMemoryError"},
        **{"action": "restart", "ground": "", "failure": "", "seconds": 0, "after": 0},
        **{
            "counted": True,
            "crashed": True,
            "first_call": False,
            "repeats": False,
            "incarnation": 1,
        },
        "signature": failed[0]["signature"],
    }
    assert failed[0]["signature"] in {each.name for each in builtin_signatures()}
    error = json.loads(members["error.json"])
    assert (error["diagnosis"], error["blame"], error["stage"]) == (
        *("out of memory", "job", "txt2img"),
    )
    raised = json.loads(members["tracebacks.json"])
    assert raised["webui_tail.log"] == [
        {
            "exception": "torch.OutOfMemoryError",
            "frames": ["modules/processing.py:847 process", "(elsewhere):12"],
        }
    ]
    assert raised["sdwatch.log"][-1] == {
        "exception": "KeyError",
        "frames": ["sdwatch/monitor/runs.py:173 run", "threading.py:1045 run"],
    }
    versions = json.loads(members["versions.json"])
    assert versions["sdwatch"] == __version__
    settings = json.loads(members["config.json"])
    assert settings["spool"] == "set"
    webui = settings["webuis"][0]
    assert webui["health"] == {"interval": 3.0}
    for key in ("command", "env", "username", "password", "url"):
        assert webui[key] == "set"


def test_a_log_that_is_added_has_no_known_prompt_secret_home_or_address(
    tmp_path: Path, config: Config
) -> None:
    run, _ = failed_run(tmp_path, ANSWERS["a 500 that echoes"])
    tails = tails_for_others(run, config)
    assert set(tails) == {"webui_tail.log", "webui_tail.2.log"}
    long = ("Purple Hippopotamus under", "seven silver moons", "quoted velvet", NEGATIVE, JAPANESE)
    assert found_in(tails, (*long, *HOMES)) == []
    assert found_in(tails, tuple(s for s in SECRETS if s not in ALONE)) == []
    assert found_in(tails, ("something that nobody told us", "rosalinde", str(tmp_path))) == []
    text = tails["webui_tail.log"]
    assert "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB" in text
    assert 'modules/processing.py", line 847, in process' in text
    assert "127.0.0.1:7860 answers" in text
    assert "see https://github.com/x/issues/1" in text
    packed = bundle(run, config, (), tails)
    assert members_of(packed)["webui_tail.log"] == text


@pytest.mark.parametrize(
    "job",
    [
        f"promt: a purple hippopotamus\nstepz: {NEGATIVE}\nsampler_name: Euler a\n",
        "purple hippopotamus dancing: yes\nprompt: cat\n",
        "txt2img:\n  velvet marzipan: 1\n",
        'prompt: "cat <lora:secretstyle_v2:1>\n',
        '{"prompt": "x", "purple hippopotamus": {"velvet": 1}}',
    ],
)
def test_a_job_that_cannot_be_read_is_in_no_member_either(
    tmp_path: Path, config: Config, job: str
) -> None:
    place = Workplace(tmp_path)
    run = place.claimed(job)
    assert place.runner(run, FakeClient()).run_to_end(place.spool) is RunEnd.FAILED
    log = tmp_path / "sdwatch.log"
    said = [word for word in WORDS if word in job]
    log.write_text(f"2026-11-23T06:52:43.123Z {run.run_id}: {said}\n")
    members = members_of(bundle(place.failed(), config, (log,)))
    assert found_in(members, WORDS) == []
    error = json.loads(members["error.json"])
    assert (error["diagnosis"], error["blame"]) == ("bad request", "job")


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("in /home/bob/x.py and bobbin", "in ~/x.py and bobbin"),
        ("at C:\\Users\\bob and /home/bob failed in modules/x", "at ~ and ~ failed in modules/x"),
        ("C:\\\\Users\\\\Bob Ross\\\\x.py", "~\\\\x.py"),
        ("/root" + "/webui, root of the tree", "~/webui, root of the tree"),
        ("BOB said, bob_2", "<user> said, <user>_2"),
        ("on box.local", "on <host>.local"),
        ("max_tokens=77, token count: 75", "max_tokens=77, token count: 75"),
        ("https://x:y@h/", "https://<secret>@<host>/"),
        ("prompt: a castle", "prompt: <hidden>"),
        ("Negative prompt: , ", "Negative prompt: , "),
        ("422: prompt: Input should be a string", "422: prompt: Input should be a string"),
        ("/data/spool/failed/x", "<spool>/failed/x"),
        ("--api-auth me:pw x", "--api-auth <secret> x"),
        ("ARGS=--hf-token=abc", "ARGS=--hf-token=<secret>"),
        ("\\n--subpath-auth-key  abc", "\\n--subpath-auth-key  <secret>"),
        ("-token 'x'", "-token 'x'"),
        ("--api-auth --listen", "--api-auth --listen"),
    ],
)
def test_a_line_stays_readable(text: str, clean: str) -> None:
    names = {"bob": "<user>", "box": "<host>", "root": "<user>"}
    assert log_for_others(text, {"/data/spool": "<spool>"}, names) == clean


@pytest.mark.parametrize(
    "run",
    [
        *("a-", "1.", "a@", "--", "curl -u ", "b'", "%41", "://", "00:", "a::", "<a>", "<a>@"),
        *("@<a>", "-key", "-"),
    ],
)
def test_a_long_run_of_what_might_be_hidden_is_looked_through_once(run: str) -> None:
    assert log_for_others(run * 50_000, {}, {"bob": "<user>"})
