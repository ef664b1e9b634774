"""What opens doors is hidden, what only speaks of it is not; and so are addresses."""

from __future__ import annotations

import pytest

from sdwatch.policy.addresses import without_addresses
from sdwatch.policy.credentials import without_credentials


@pytest.mark.parametrize(
    "said",
    [
        *("Authorization: Token X!", "AWS_SECRET_ACCESS_KEY=X!", "?X-Amz-Signature=X!&a=1"),
        *("https://X!@host/x", "https://u:X!@host/x", "password was: X!", "passphrase=X!"),
        *(
            "password is X!",
            "OPENAI_KEY=X!",
            "api_auth='joe:X!'",
            "curl -s -u joe:X! y",
            "a_pass=X!",
        ),
        *("sshpass -p X! ssh", "mysql -pX!", "--ngrok X!", "['--api-auth', 'X!']", "X-Api-Key: X!"),
        *('{"refreshToken":"X! z"}', "Set-Cookie: s=X!; Path=/", "civitai key 0123456789X!abcdef"),
    ],
)
def test_a_secret_is_told_by_what_is_said_before_it(said: str) -> None:
    assert "X4secret7" not in without_credentials(said.replace("X!", "X4secret7"))


@pytest.mark.parametrize(
    "said",
    [
        *("AIza0123456789abc", "npm_AbCdEf123456", "sk_live_abcdefgh1234", "ghp_abcdefgh1234"),
        *("hf_AbCdEfGh1234", "glpat-AbCdEf123456", "eyJhbGciOiJIUzI1.eyJzdWIiOi.abc"),
    ],
)
def test_a_token_is_told_by_its_form(said: str) -> None:
    assert without_credentials(f"x {said} y") == "x <secret> y"


@pytest.mark.parametrize(
    "said",
    [
        *("max_tokens=77, token count: 75", "password is wrong", "KeyError: 'k'", "api_auth=None"),
        *("huggingface hf_hub_download failed", "--api-auth-file --port 1", "bad token in x"),
        "https://host/x@1",
    ],
)
def test_what_only_speaks_of_secrets_stays(said: str) -> None:
    assert without_credentials(said) == said


@pytest.mark.parametrize(
    ("said", "clean"),
    [
        ("peer 192.168.1.2:80", "peer <host>:80"),
        ("fe80::1a2b:3c4d%eth0", "<host>"),
        ("127.0.0.1:7860 and 0.0.0.0", None),
        ("torch v2.4.0.1, version 1.2.3.4", None),
        ("mac 00:1a:2b:3c:4d:5e", "mac <address>"),
        ("at 12:13:14-123456", None),
        ("https://ab12.gradio.live/x", "https://<host>/x"),
        ("\\\\BOX\\share and '\\\\\\\\BOX\\\\x'", "\\\\<host>\\share and '\\\\\\\\<host>\\\\x'"),
        ("C:\\\\Users\\\\x", None),
        ("by a.b@example.org.", "by <address>"),
        ("@torch.no_grad()", None),
    ],
)
def test_addresses_are_hidden_but_this_machines_own(said: str, clean: str | None) -> None:
    assert without_addresses(said) == (said if clean is None else clean)
