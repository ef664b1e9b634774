"""What opens doors is hidden, what only speaks of it is not; and so are addresses."""

from __future__ import annotations

from sdwatch.policy.privacy.credentials import without_credentials
from sdwatch.policy.privacy.log_for_others import without_addresses
from tests.support.tables import table


@table(
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
def test_a_secret_is_recognized_by_the_words_before_it(said: str) -> None:
    assert "X4secret7" not in without_credentials(said.replace("X!", "X4secret7"))


@table(
    "said",
    [
        *("AIza0123456789abc", "npm_AbCdEf123456", "sk_live_abcdefgh1234", "ghp_abcdefgh1234"),
        *("hf_AbCdEfGh1234", "glpat-AbCdEf123456", "eyJhbGciOiJIUzI1.eyJzdWIiOi.abc"),
    ],
)
def test_a_token_is_recognized_by_its_form(said: str) -> None:
    assert without_credentials(f"x {said} y") == "x <secret> y"


@table(
    "said",
    [
        *("max_tokens=77, token count: 75", "password is wrong", "KeyError: 'k'", "api_auth=None"),
        *("huggingface hf_hub_download failed", "--api-auth-file --port 1", "bad token in x"),
        "https://host/x@1",
    ],
)
def test_what_only_speaks_of_secrets_stays(said: str) -> None:
    assert without_credentials(said) == said


@table(
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
        ("<secret>@mueller-home.de, a@<secret>-home.de", "<address>, <address>"),
        ("mail=a%40übermut.de&x", "mail=<address>&x"),
        ("http://sd.mueller-home.de:7860/x", "http://<host>:7860/x"),
        ("ssh://wolke.example.com. And", "ssh://<host>. And"),
        ("http://wolke?q=a@b", "http://<host>?q=<address>"),
        (
            "'http:\\/\\/wolke\\/x' or =https%3A%2F%2Fwolke%2F",
            "'http:\\/\\/<host>\\/x' or =https%3A%2F%2F<host>%2F",
        ),
        ("ws://<secret>.mueller.de/", "ws://<host>/"),
        ("http://github.com.mueller.de, http://mygithub.com", "http://<host>, http://<host>"),
        ("http://127.0.0.1:7860, http://localhost:1, https://0.0.0.0 http://[::1]:80", None),
        ("https://cdn.huggingface.co/x https://<secret>@github.com/x https://pytorch.org.", None),
        ("file:///models/x and sqlite:///x", None),
        ("2a02:810b:1234:5678::1", "<host>"),
        ("peer:2A02:810b:1234:5678::1:54321 - 200", "peer:<host>:54321 - 200"),
        ("http://[2a02:810b:1:2:3:4:5:6]:7860/", "http://[<host>]:7860/"),
        ("2a02:810b::/32, fd00::1, ::ffff:c0a8:117", "<host>/32, <host>, <host>"),
        ("12:13:14, 2026:11:23 06:52:43, ::1, x[::2], x[1::2], c10::add, at::cat", None),
    ],
)
def test_addresses_are_hidden_but_this_machines_own(said: str, clean: str | None) -> None:
    assert without_addresses(said) == (said if clean is None else clean)
