"""What a payload hid is found in whatever the WebUI says back."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import threading
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdwatch.policy.privacy.printable import shortened
from sdwatch.policy.privacy.redaction import MOST_TEXTS, Redactor
from tests.support.examples import examples
from tests.support.tables import table

PROMPT = 'a "red" cat, sitting on the mät,\nit\'s <lora:cuteStyle:0.8> \\ (very fine:1.2)'


def marker(text: str) -> str:
    return f"<text {len(text)} chars sha256:{hashlib.sha256(text.encode()).hexdigest()[:8]}>"


@pytest.fixture
def redactor() -> Redactor:
    redactor = Redactor()
    redactor.learn({"prompt": PROMPT, "steps": 20, "sampler_name": "Euler a"})
    return redactor


@table(
    "form",
    [
        PROMPT,
        json.dumps(PROMPT)[1:-1],
        json.dumps(PROMPT, ensure_ascii=False)[1:-1],
        json.dumps(json.dumps(PROMPT))[3:-3],
        repr(PROMPT)[1:-1],
        html.escape(PROMPT),
        html.escape(PROMPT, quote=False),
        PROMPT.replace("\n", "\\n"),
    ],
)
def test_a_prompt_is_replaced_in_each_form_it_comes_back_in(redactor: Redactor, form: str) -> None:
    assert redactor.redact(f"input: '{form}' end") == f"input: '{marker(PROMPT)}' end"


@table(
    ("line", "shown"),
    [
        ("x: sitting on the mät!", f"x: {marker('sitting on the mät')}!"),
        ("<lora:cuteStyle:0.8> not found", f"{marker('<lora:cuteStyle:0.8>')} not found"),
        ("LoRA cuteStyle not found", f"LoRA {marker('cuteStyle')} not found"),
        ("at (very fine:1.2)", f"at ({marker('very fine:1.2')})"),
        ("truncated: ['cat sitting , on']", f"truncated: ['{marker('cat sitting , on')}']"),
    ],
)
def test_parts_of_a_prompt_are_replaced(redactor: Redactor, line: str, shown: str) -> None:
    assert redactor.redact(line) == shown


def test_a_prompt_that_sdnext_wrapped_is_replaced() -> None:
    redactor = Redactor()
    redactor.learn({"prompt": "a supercalifragilistic cat"})
    wrapped = "ERROR  x: a supercalifra\n" + " " * 25 + "gilistic\n" + " " * 25 + "cat end"
    assert redactor.redact(wrapped) == f"ERROR  x: {marker('a supercalifragilistic cat')} end"


def test_common_words_in_the_switches_of_a_workflow_stay_readable() -> None:
    """Of the workflows that the editor exports each has `ComfyUI` in its SaveImage."""
    saver = {"class_type": "SaveImage", "inputs": {"filename_prefix": "ComfyUI", "how": "cut"}}
    text = {"class_type": "CLIPTextEncode", "inputs": {"text": "cut", "note": "naked"}}
    redactor = Redactor()
    redactor.learn({"own_workflow": {"nodes": {"9": saver}}})
    line = "ComfyUI refused the workflow: the picture is cut, naked"
    assert redactor.redact(line) == line
    redactor.learn({"own_workflow": {"nodes": {"9": saver, "6": text}}})
    assert redactor.redact(line) == line.replace("cut", marker("cut")).replace(
        "naked", marker("naked")
    )


def test_names_numbers_and_the_rest_of_the_line_stay(redactor: Redactor) -> None:
    line = "RuntimeError: step 20 of Euler a failed in category 7"
    assert redactor.redact(line) == line


def test_short_texts_are_replaced_without_harm_to_words() -> None:
    redactor = Redactor()
    for prompt in ("a cat", "dog", "x", "512", "None"):
        redactor.learn({"prompt": prompt})
    assert redactor.redact("a cat!") == f"{marker('a cat')}!"
    assert redactor.redact("a category, vacation, dogma") == "a category, vacation, dogma"
    assert redactor.redact("the dog is") == f"the {marker('dog')} is"
    assert redactor.redact("x = 512 'x' \"x\"") == f"x = 512 '{marker('x')}' \"{marker('x')}\""
    assert redactor.redact("&quot;512&quot;") == f"&quot;{marker('512')}&quot;"
    assert redactor.redact("'NoneType' None 'None'") == "'NoneType' None 'None'"


def test_texts_without_blanks_between_words_are_found() -> None:
    redactor = Redactor()
    redactor.learn({"prompt": "一只猫"})
    for form in ("见一只猫坐", json.dumps("见一只猫坐")):
        assert marker("一只猫") in redactor.redact(form)


def test_the_longest_text_wins_and_overlaps_leave_nothing() -> None:
    redactor = Redactor()
    redactor.learn({"prompt": "one two", "hr_prompt": "two three four"})
    assert redactor.redact("> one two <") == f"> {marker('one two')} <"
    assert redactor.redact("> one two three four <") == f"> {marker('two three four')} <"


def test_case_counts_for_whole_texts() -> None:
    redactor = Redactor()
    redactor.learn({"prompt": "Error"})
    assert redactor.redact("ERROR error") == "ERROR error"


@table("prompt", ["text", "chars", "sha256", "base64", "secret", "<text", "\\n\\n"])
def test_a_marker_is_never_redacted_itself(prompt: str) -> None:
    redactor = Redactor()
    redactor.learn({"prompt": prompt, "hr_prompt": "a hidden thing"})
    assert redactor.redact("see a hidden thing here") == f"see {marker('a hidden thing')} here"


def test_a_secret_leaves_neither_length_nor_digest() -> None:
    redactor = Redactor()
    redactor.learn_secret("p@ss/wörd")
    redactor.learn({"args": [{"api_key": "k3y-of-mine"}]})
    assert redactor.redact("http://u:p@ss/wörd@h") == "http://u:<secret>@h"
    assert redactor.redact("http://u:p%40ss%2Fw%C3%B6rd@h") == "http://u:<secret>@h"
    assert redactor.redact('{"k": "p@ss/w\\u00f6rd"}') == '{"k": "<secret>"}'
    assert redactor.redact("xk3y-of-miney") == "x<secret>y"
    redactor.learn_secret("")
    assert redactor.redact("plain") == "plain"


def test_long_base64_is_replaced_and_short_is_not() -> None:
    redactor = Redactor()
    assert redactor.redact("x: " + "A" * 400 + "== end") == "x: <base64 402 chars> end"
    assert redactor.redact("A" * 200) == "A" * 200
    wrapped = "\n                         ".join(["iVBORw0KGgoB" * 5] * 6)
    assert "iVBOR" not in redactor.redact(f"input: {wrapped} end")


def test_the_last_texts_are_remembered_and_no_more() -> None:
    redactor = Redactor()
    for number in range(MOST_TEXTS + 1):
        redactor.learn({"prompt": f"picture{number}"})
    assert redactor.redact("picture0") == "picture0"
    assert redactor.redact("picture1") == marker("picture1")
    assert redactor.redact(f"picture{MOST_TEXTS}") == marker(f"picture{MOST_TEXTS}")


def test_learning_and_redacting_at_the_same_time_is_safe() -> None:
    redactor = Redactor()
    failures: list[str] = []

    def work(worker: int) -> None:
        for number in range(30):
            prompt = f"worker {worker} wants picture {number}"
            redactor.learn({"prompt": prompt})
            if prompt in redactor.redact(f"log: {prompt}"):
                failures.append(prompt)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@examples(25)
@given(prompt=st.text(min_size=4, max_size=60), before=st.text(), after=st.text())
def test_no_text_raises(prompt: str, before: str, after: str) -> None:
    redactor = Redactor()
    redactor.learn({"prompt": prompt})
    redactor.redact(before + prompt + after)


@pytest.mark.slow
@examples(25)
@given(st.lists(st.text("abcé\"'\\&<>\n,", min_size=4, max_size=8), min_size=1, max_size=5))
def test_a_quoted_prompt_never_stays(words: list[str]) -> None:
    prompt = "Xq " + " ".join(words) + " qX"
    redactor = Redactor()
    redactor.learn({"prompt": prompt})
    for form in (prompt, json.dumps(prompt), repr(prompt), html.escape(prompt)):
        assert "Xq" not in redactor.redact(f"log: {form} end")


LONG = ", ".join(f"phrase{number} with{number} words{number}" for number in range(5000))
CASTLE = "a castle of velvet moons"
WORDS_APART = ("velvet", "marzipan", "hippopotamus", "glittering", "submarine", "crocodile")


@table(
    ("prompt", "echo", "gone"),
    [
        (LONG, "x phrase4990 with4990 words4990 y", "phrase4990"),
        (f"{'a, ' * 300}silver moons, z", "log: silver moons", "silver"),
        ("a castle, velvet moons", "VELVET MOONS and Velvet_Moons", "velvet"),
        ("velvet moons", "q=velvet%20moons", "velvet"),
        ("velvet moons", "q=velvet+moons", "velvet"),
        ("velvet moons", "".join(f"\\u{ord(c):04x}" for c in "velvet moons"), "0076"),
        ("velvet moons", base64.b64encode(b"velvet moons").decode(), "dmVsdmV0"),
        (
            "a castle of velvet moons",
            base64.b64encode(b"xa castle of velvet m").decode()[3:],
            "Y2Fz",
        ),
        (CASTLE, CASTLE.encode().hex(), "76656c766574"),
        (
            " ".join(WORDS_APART),
            "\n".join(f"{n}\t{w}</w>" for n, w in enumerate(WORDS_APART)),
            "marz",
        ),
        ("雪の中の青い城と七つの月", "…の中の青い城と", "青い城"),
        ("雪の中の青い城と七つの月", quote("中の青い城"), "%E9%9D%92"),
        ("naïve façade of marble", "NAI\u0308VE FAC\u0327ADE OF", "FAC"),
        ("a night\nnever seen", "a night\\nnever seen", "never"),
        ("😀🦛🌙✨ 🦛🦛", json.dumps("🦛🌙✨"), "ud83e"),
    ],
)
def test_a_passage_is_found_however_it_is_written(prompt: str, echo: str, gone: str) -> None:
    redactor = Redactor()
    assert gone.lower() in redactor.redact(echo).lower()
    redactor.learn({"prompt": prompt})
    assert gone.lower() not in redactor.redact(f"log {echo} end").lower()


@table("at", range(0, 72, 5))
def test_what_is_next_to_where_a_text_was_cut_goes_with_it(at: int) -> None:
    prompt = "".join(chr(0x4E00 + 37 * number) for number in range(72))
    redactor = Redactor()
    redactor.learn({"prompt": prompt})
    line = shortened(
        f"{'x ' * 900}{'y' * (200 - at)}{prompt}{'z' * 3000}{prompt}{'w' * 1960}", 4000
    )
    redacted = redactor.redact(line)
    assert "left out" in redacted
    assert not any(sign in redacted for sign in prompt)


def test_what_was_forgotten_leaves_nothing_behind() -> None:
    redactor = Redactor()
    for number in range(MOST_TEXTS + 1):
        redactor.learn({"prompt": f"a castle number{number} of velvet{number} and marble{number}"})
    text = "number0 of velvet0 and marble0"
    assert redactor.redact(text) == text


def test_a_log_that_has_nothing_of_a_prompt_stays_as_it_is() -> None:
    redactor = Redactor()
    redactor.learn(
        {"prompt": "a portrait of a woman in the process of dreaming, detailed background"}
    )
    log = (
        'Traceback (most recent call last):\n  File "modules/processing.py", line 847, in process\n'
        "RuntimeError: CUDA out of memory. Tried to allocate 20.00 GiB (GPU 0; 8.00 GiB total)\n"
        "Loading weights [bd773b1ec0] from /sd/models/Stable-diffusion/base.safetensors\n"
        "background worker 7 processed 12 of 40, 127.0.0.1:7860"
    )
    assert redactor.redact(log) == log
