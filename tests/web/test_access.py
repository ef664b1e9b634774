"""Who may read, and who may change something, as a table."""

from __future__ import annotations

import stat
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sdwatch.errors import SdwatchError
from sdwatch.web.access import TOKEN_FILE, Access, Asked, Refusal, checked_url, token_in

TOKEN = "t" * 43
HERE = Access(TOKEN, "127.0.0.1")
EVERYWHERE = Access(TOKEN, "0.0.0.0")
PROXIED = Access(TOKEN, "127.0.0.1", "https://render.example.org")
LOOPBACK = Asked(host="127.0.0.1:7880")
PRESSED = Asked(
    host="127.0.0.1:7880", origin="http://127.0.0.1:7880", site="same-origin", cookie=HERE.cookie
)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:9000", "localhost:7880", "[::1]:1", "LOCALHOST"]
)
def test_names_of_this_machine_may_read_without_a_token(host: str) -> None:
    assert HERE.refuses_reading(Asked(host=host)) is None


@pytest.mark.parametrize(
    "host",
    [
        "", "evil.example", "127.0.0.1.evil.example", "localhost.evil.example:7880", "0.0.0.0:7880",
        "192.168.1.7:7880", "localhost@evil.example", "localhost/x", "localhost:7880:1", "[::1",
        "evil.example#localhost", "localhost evil", "lo\u017fcalhost", "127.1", "2130706433",
        "[::]",
    ],
)  # fmt: skip
def test_other_names_are_refused_also_with_the_token(host: str) -> None:
    asked = replace(PRESSED, host=host, bearer=TOKEN)
    assert HERE.refuses_reading(asked) is Refusal.HOST
    assert HERE.refuses_change(asked, HERE.form_token) is Refusal.HOST


@pytest.mark.parametrize("access", [EVERYWHERE, PROXIED])
def test_anywhere_else_reading_needs_the_token(access: Access) -> None:
    asked = Asked(host="127.0.0.1:7880")
    assert access.refuses_reading(asked) is Refusal.TOKEN
    assert access.refuses_reading(replace(asked, bearer=TOKEN)) is None
    assert access.refuses_reading(replace(asked, cookie=access.cookie)) is None
    assert access.refuses_reading(replace(asked, cookie=TOKEN)) is Refusal.TOKEN


def test_what_a_proxy_passes_on_needs_the_token_although_the_proxy_is_here() -> None:
    assert HERE.refuses_reading(replace(LOOPBACK, forwarded=True)) is Refusal.TOKEN


def test_everywhere_an_address_is_known_and_a_foreign_name_is_not() -> None:
    asked = Asked(host="192.168.1.7:7880", bearer=TOKEN)
    assert EVERYWHERE.refuses_reading(asked) is None
    assert EVERYWHERE.refuses_reading(replace(asked, host="evil.example")) is Refusal.HOST


def test_a_pressed_button_is_obeyed() -> None:
    assert HERE.refuses_change(PRESSED, HERE.form_token) is None


@pytest.mark.parametrize(
    ("asked", "form", "refusal"),
    [
        (replace(PRESSED, cookie=""), HERE.form_token, Refusal.TOKEN),
        (replace(PRESSED, cookie=TOKEN), HERE.form_token, Refusal.TOKEN),
        (replace(PRESSED, bearer="t"), "", Refusal.FORM),
        (PRESSED, "", Refusal.FORM),
        (PRESSED, TOKEN, Refusal.FORM),
        (PRESSED, HERE.cookie, Refusal.FORM),
        (replace(PRESSED, origin=""), HERE.form_token, Refusal.ORIGIN),
        (replace(PRESSED, origin="null"), HERE.form_token, Refusal.ORIGIN),
        (replace(PRESSED, origin="http://127.0.0.1:7860"), HERE.form_token, Refusal.ORIGIN),
        (replace(PRESSED, origin="https://127.0.0.1:7880"), HERE.form_token, Refusal.ORIGIN),
        (replace(PRESSED, origin="http://localhost:7880"), HERE.form_token, Refusal.ORIGIN),
        (replace(PRESSED, site="cross-site"), HERE.form_token, Refusal.ORIGIN),
        (replace(PRESSED, site="same-site"), HERE.form_token, Refusal.ORIGIN),
    ],
)
def test_a_change_needs_cookie_origin_and_form_token(
    asked: Asked, form: str, refusal: Refusal
) -> None:
    assert HERE.refuses_change(asked, form) is refusal


def test_a_program_changes_something_with_the_token_in_its_header() -> None:
    assert HERE.refuses_change(replace(LOOPBACK, bearer=TOKEN), "") is None
    assert HERE.refuses_change(replace(LOOPBACK, bearer=HERE.cookie), "") is Refusal.TOKEN


def test_behind_a_proxy_the_origin_is_the_url() -> None:
    asked = Asked(
        host="render.example.org", origin="https://render.example.org", cookie=PROXIED.cookie
    )
    assert PROXIED.refuses_change(asked, PROXIED.form_token) is None
    assert PROXIED.is_encrypted


@pytest.mark.parametrize(
    "url", ["render", "ftp://x", "https://", "https://x/path", "https://u@x", "https://x:y"]
)
def test_a_url_that_is_no_root_of_a_host_is_refused(url: str) -> None:
    with pytest.raises(SdwatchError, match="--url"):
        checked_url(url)


def test_the_token_is_made_once_and_is_private(tmp_path: Path) -> None:
    state = tmp_path / "state"
    token = token_in(state)
    assert len(token) >= 43
    assert token_in(state) == token
    if sys.platform != "win32":
        assert stat.S_IMODE((state / TOKEN_FILE).stat().st_mode) == 0o600
        assert stat.S_IMODE(state.stat().st_mode) == 0o700


@pytest.mark.parametrize("kept", [b"", b"short\n", b"\xff" * 40, b"x" * 300, b"two words " * 5])
def test_a_token_that_nobody_could_use_is_replaced(kept: bytes, tmp_path: Path) -> None:
    (tmp_path / TOKEN_FILE).write_bytes(kept)
    assert len(token_in(tmp_path)) >= 43
