"""The config's `notify:`: what may be written, and that its addresses are secrets everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdwatch.config import Config
from sdwatch.config_file import parse_config
from sdwatch.errors import ConfigError
from sdwatch.policy.notify.notify_settings import secrets_of, targets_of
from sdwatch.policy.notify.target import Channel
from sdwatch.policy.privacy.redaction import Redactor
from sdwatch.policy.report.for_others import keys_of
from tests.support.tables import table

ONE = "spool: .\nstate: state\nwebuis:\n  forge:\n    url: http://127.0.0.1:7860\n"
HOOK = "https://hooks.example.com/services/T0AB12CD/B0EF34GH/ijKLmnOPqr56"
TELEGRAM = "tgram://123456789:AAbbCCddEEff/-100200300"


def config_of(text: str) -> Config:
    return parse_config((ONE + text).encode(), "c.yaml", Path("/far/away"))


def problems_of(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        config_of(text)
    return str(caught.value)


def test_one_address_stands_for_a_list() -> None:
    notify = config_of(f"notify:\n  webhooks: {HOOK}\n  apprise: [{TELEGRAM}]\n").notify
    targets = targets_of(notify)
    assert [(t.channel, t.name) for t in targets] == [
        (Channel.WEBHOOK, "webhook 1"),
        (Channel.APPRISE, "apprise 1 (tgram)"),
    ]
    assert [t.url for t in targets] == [HOOK, TELEGRAM]
    assert notify.prompts is False


def test_without_it_nobody_gets_messages() -> None:
    assert targets_of(config_of("").notify) == []
    assert targets_of(config_of("notify:\n").notify) == []


@table(
    ("text", "place", "words"),
    [
        ("notify:\n  webhook: x\n", "c.yaml:7:3", 'did you mean "webhooks"?'),
        ("notify:\n  aprise: x\n", "c.yaml:7:3", 'did you mean "apprise"?'),
        ("notify:\n  webhooks: [ftp://s3cret1]\n", "c.yaml:7:14", "must be an address such as"),
        ("notify:\n  webhooks: s3cret1\n", "c.yaml:7:13", "must be an address such as"),
        ("notify:\n  webhooks: 'https:///s3cret1'\n", "c.yaml:7:13", "must be an address such as"),
        ("notify:\n  webhooks: 'http://[s3cret1'\n", "c.yaml:7:13", "must be an address such as"),
        ("notify:\n  webhooks: 'http://a:99999/s3cret1'\n", "c.yaml:7:13", "must be an address"),
        ("notify:\n  webhooks: 'http://a/s3cret1 b'\n", "c.yaml:7:13", "must be an address"),
        ("notify:\n  webhooks: {s3cret1: x}\n", "c.yaml:7:13", "must be a list, not a mapping"),
        ("notify:\n  webhooks: [[s3cret1]]\n", "c.yaml:7:14", "must be text, not a list"),
        ("notify:\n  apprise: s3cret1\n", "c.yaml:7:12", "must be an address of apprise"),
        ("notify: https://s3cret1\n", "c.yaml:6:9", "must be a mapping with `webhooks:`"),
        ("notify: [https://s3cret1]\n", "c.yaml:6:9", "must be a mapping with `webhooks:`"),
        ("notify:\n  prompts: maybe\n", "c.yaml:7:12", "must be true or false"),
        (
            "notify:\n  webhooks: [" + ", ".join(["https://s3cret1/"] * 21) + "]\n",
            "c.yaml:7:13",
            "at most 20",
        ),
    ],
)
def test_a_mistake_has_its_place_and_repeats_no_address(text: str, place: str, words: str) -> None:
    said = problems_of(text)
    assert said.startswith(place), said
    assert words in said
    assert "s3cret1" not in said


def test_the_addresses_are_in_no_printed_config() -> None:
    config = config_of(f"notify:\n  webhooks: {HOOK}\n  apprise: {TELEGRAM}\n")
    for text in (repr(config), str(config), repr(config.notify), repr(targets_of(config.notify))):
        assert "ijKLmnOPqr56" not in text
        assert "AAbbCCddEEff" not in text


def test_a_bundle_says_only_that_they_are_set() -> None:
    config = config_of(f"notify:\n  webhooks: {HOOK}\n  prompts: on\n")
    assert keys_of(config, frozenset())["notify"] == {"webhooks": "set", "prompts": True}


def test_the_redactor_hides_them_whole_and_in_parts() -> None:
    config = config_of(f"notify:\n  webhooks: {HOOK}\n  apprise: {TELEGRAM}\n")
    redactor = Redactor()
    for secret in secrets_of(config.notify):
        redactor.learn_secret(secret.value, secret.label)
    text = redactor.redact(
        f"POST {HOOK} failed; host='hooks.example.com' url: /services/T0AB12CD/B0EF34GH/"
        "ijKLmnOPqr56; bot 123456789 AAbbCCddEEff; services and webhooks are words"
    )
    for part in ("ijKLmnOPqr56", "T0AB12CD", "B0EF34GH", "123456789", "AAbbCCddEEff"):
        assert part not in text
    assert "services and webhooks are words" in text
