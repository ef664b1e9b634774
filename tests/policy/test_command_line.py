"""A command line for others: no value that is not known to be harmless."""

from __future__ import annotations

import pytest

from sdwatch.policy.privacy.command_line import command_for_others, secrets_in_command


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["a", "--api-auth", "u:p", "--api"], ["a", "--api-auth", "<secret>", "--api"]),
        (["--hf-token=x", "--port", "1"], ["--hf-token=<secret>", "--port", "1"]),
        (["--gradio-auth-path", "--port=1"], ["--gradio-auth-path", "--port=1"]),
        (["--ngrok", "abc"], ["--ngrok", "<secret>"]),
        (["--share-name", "otto"], ["--share-name", "<hidden>"]),
        (["python", "-u", "launch.py"], ["python", "-u", "launch.py"]),
        (["python", "-m", "x.y", "{port}"], ["python", "-m", "x.y", "{port}"]),
        (["env", "A=b", "run.sh"], ["env", "A=<hidden>", "run.sh"]),
        (["x", "0123456789abcdef0123"], ["x", "<hidden>"]),
        (["--port", "hf_AbCdEfGh1234"], ["--port", "<hidden>"]),
    ],
)
def test_values_are_hidden_unless_they_are_harmless(words: list[str], told: list[str]) -> None:
    assert command_for_others(words) == [*told]


def test_what_must_not_be_seen_elsewhere_either_is_what_a_log_can_be_read_without() -> None:
    words = ["p", "--api-auth", "u:p", "--share-name=hushhush", "--x", "1", "--ckpt", "a/b.pt"]
    assert list(secrets_in_command(words)) == ["u:p", "hushhush"]
