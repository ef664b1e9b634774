"""One message to an address that misbehaves, over real sockets and from a real process."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from sdwatch.notify import send as sending
from sdwatch.notify.delivery import Delivery, Receipt, in_words
from sdwatch.policy.notify.message import Message, json_of
from sdwatch.policy.notify.target import Channel, Target
from tests.notify.receivers import (
    CERTIFICATE,
    TOKEN,
    dripping,
    hangs_up,
    huge,
    receiver,
    silent,
    status,
)
from tests.support.helpers import free_port, wait_until

PATIENTLY = 90.0  # seconds, for a machine that is busy with other tests
BODY = json_of(Message(test=True), "render1")


def webhook(url: str) -> Target:
    return Target(Channel.WEBHOOK, url, "webhook 1")


def send(target: Target, body: dict[str, Any], limit: float = PATIENTLY) -> Delivery:
    return sending.send(target, body, limit=limit)


def is_understood(target: Target) -> Delivery:
    return sending.send(target, None, limit=PATIENTLY)


def senders() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if "sdwatch.notify" in child.cmdline()
    ]


def test_a_webhook_gets_a_post_with_json() -> None:
    with receiver() as there:
        assert send(webhook(there.url), BODY).result is Receipt.SENT
        (got,) = there.got
    assert got.line == f"POST /{TOKEN} HTTP/1.1"
    assert got.json == BODY
    assert got.json["about"] == ["test"]


@pytest.mark.parametrize("code", [400, 401, 404, 405, 410, 418, 429, 500, 503])
def test_a_refusal_has_its_status(code: int) -> None:
    with receiver(status(code)) as there:
        delivery = send(webhook(there.url), BODY)
    assert delivery == Delivery(Receipt.REFUSED, code)
    assert str(code) in in_words(delivery)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(code: int) -> None:
    with receiver() as other, receiver(status(code, f"Location: {other.url}")) as there:
        delivery = send(webhook(there.url), BODY)
        assert other.got == []
    assert delivery == Delivery(Receipt.REDIRECTED, code)


@pytest.mark.parametrize("answer", [silent, dripping])
def test_an_address_that_hangs_is_given_up_and_its_process_ends(
    answer: Callable[[socket.socket, threading.Event], None],
) -> None:
    with receiver(answer) as there:
        delivery = send(webhook(there.url), BODY, limit=3)
        assert delivery == Delivery(Receipt.TIMED_OUT)
        wait_until(lambda: not senders(), 10, "the process is gone")


@pytest.mark.parametrize("answer", [silent, dripping])
def test_a_stop_ends_a_message_under_way_at_once(
    answer: Callable[[socket.socket, threading.Event], None],
) -> None:
    given_up = threading.Event()
    with receiver(answer) as there:
        threading.Thread(
            target=lambda: (wait_until(lambda: there.got, 90), given_up.set()), daemon=True
        ).start()
        delivery = sending.send(webhook(there.url), BODY, limit=3600, given_up=given_up.is_set)
        assert delivery == Delivery(Receipt.TIMED_OUT)
        wait_until(lambda: not senders(), 10, "the process is gone")


def test_a_huge_answer_is_not_read() -> None:
    with receiver(huge) as there:
        assert send(webhook(there.url), BODY).result is Receipt.SENT


def test_a_connection_that_is_closed_or_refused() -> None:
    with receiver(hangs_up) as there:
        assert send(webhook(there.url), BODY).result is Receipt.UNREACHABLE
    nobody = f"http://127.0.0.1:{free_port()}/{TOKEN}"
    assert send(webhook(nobody), BODY).result is Receipt.UNREACHABLE
    unknown = f"http://host.invalid/{TOKEN}"
    assert send(webhook(unknown), BODY).result is Receipt.UNREACHABLE


def test_a_certificate_that_nobody_signed_is_refused_until_it_is_trusted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with receiver(tls=True) as there:
        assert send(webhook(there.url), BODY) == Delivery(Receipt.TLS)
        assert there.got == []
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(CERTIFICATE))
        assert send(webhook(there.url), BODY).result is Receipt.SENT
        assert there.got[0].json == BODY


def test_a_proxy_is_used_and_its_refusal_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with receiver() as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        address = f"http://hooks.invalid/{TOKEN}"
        assert send(webhook(address), BODY).result is Receipt.SENT
        assert proxy.got[0].line == f"POST {address} HTTP/1.1"
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    assert send(webhook(address), BODY).result is Receipt.PROXY


@pytest.mark.parametrize("excepted", ["127.0.0.1", "127.0.0.0/8", "x, 127.0.0.0/8", "*"])
def test_what_the_environment_excepts_gets_it_without_a_proxy(
    excepted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("no_proxy", "10.0.0.0/8")
    with receiver() as there:
        assert send(webhook(there.url), BODY).result is Receipt.PROXY
        monkeypatch.setenv("no_proxy", excepted)
        assert send(webhook(there.url), BODY).result is Receipt.SENT


def test_apprise_sends_it_from_a_process_of_its_own() -> None:
    with receiver() as there:
        target = Target(Channel.APPRISE, f"json://127.0.0.1:{there.port}/{TOKEN}", "apprise 1")
        assert is_understood(target).result is Receipt.SENT
        assert there.got == []
        assert send(target, BODY).result is Receipt.SENT
        assert BODY["title"] in there.got[0].json["title"]
        assert BODY["text"] in there.got[0].json["message"]


def test_what_apprise_cannot_send_is_said_without_the_address() -> None:
    with receiver(status(403)) as there:
        target = Target(Channel.APPRISE, f"json://127.0.0.1:{there.port}/{TOKEN}", "apprise 1")
        assert send(target, BODY) == Delivery(Receipt.REFUSED, 403)
    unknown = Target(Channel.APPRISE, f"nosuch://{TOKEN}", "apprise 1")
    assert send(unknown, BODY).result is Receipt.NOT_UNDERSTOOD
    assert is_understood(unknown).result is Receipt.NOT_UNDERSTOOD
    gone = Target(Channel.APPRISE, f"json://127.0.0.1:{free_port()}/{TOKEN}", "apprise 1")
    assert send(gone, BODY).result is Receipt.UNREACHABLE


def test_every_result_has_its_words_and_none_has_an_address() -> None:
    for result in Receipt:
        words = in_words(Delivery(result, 404))
        assert words
        assert TOKEN not in words
