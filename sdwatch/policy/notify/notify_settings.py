"""The config's `notify:`, and the addresses in it, which are secrets. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, TypeAlias
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from sdwatch.policy.job.text.typed_values import ONE_OR_MORE, Written
from sdwatch.policy.notify.target import Channel, Target
from sdwatch.policy.privacy.config_secrets import Secret, is_weak

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30})://\S")


def _webhook(text: str) -> str:
    """Check the address of a webhook. The message does not repeat it: it may have a token in it."""
    try:
        parts = urlsplit(text)
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError:
        has_host = False
    if not has_host or parts.scheme not in ("http", "https") or re.search(r"\s", text):
        raise ValueError("must be an address such as https://HOST/PATH")
    return text


def _apprise(text: str) -> str:
    if not _SCHEME.match(text) or re.search(r"[\x00-\x20]", text):
        raise ValueError(
            "must be an address of apprise, such as tgram://TOKEN/CHAT "
            "(https://appriseit.com/services/ has them)"
        )
    return text


def _a_mapping(value: Any) -> Any:
    """Refuse an address where `notify:` has none of its keys; the message does not repeat it."""
    if isinstance(value, str | list):
        raise ValueError("must be a mapping with `webhooks:` or `apprise:` in it")
    return value


_Addresses = Field(max_length=20, repr=False)
_Webhook: TypeAlias = Annotated[str, AfterValidator(_webhook)]
_Apprise: TypeAlias = Annotated[str, AfterValidator(_apprise)]


class NotifyConfig(Written):
    """Who gets messages. `webhooks`: get a POST with JSON; `apprise`: addresses that apprise
    understands; `prompts`: messages about failed jobs name their prompts."""

    webhooks: Annotated[tuple[_Webhook, ...], ONE_OR_MORE, _Addresses] = ()
    apprise: Annotated[tuple[_Apprise, ...], ONE_OR_MORE, _Addresses] = ()
    prompts: bool = False


NOT_AN_ADDRESS = BeforeValidator(_a_mapping)
"""An annotation of the field that has this model."""


def targets_of(config: NotifyConfig) -> list[Target]:
    """Return all of them, in the order of the config."""
    found = [
        Target(Channel.WEBHOOK, url, f"webhook {number}")
        for number, url in enumerate(config.webhooks, 1)
    ]
    for number, url in enumerate(config.apprise, 1):
        scheme = url.partition("://")[0].lower()
        found.append(Target(Channel.APPRISE, url, f"apprise {number} ({scheme})"))
    return found


def secrets_of(config: NotifyConfig) -> Iterator[Secret]:
    """Return the addresses, and the parts of each that may give access alone: a token may be part
    of the path, the query, or the host. Plain words, such as `webhooks`, are none."""
    for target in targets_of(config):
        yield Secret(target.url, target.name)
        for part in re.split(r"[/?&=@#:;,.]+", target.url.partition("://")[2]):
            for form in dict.fromkeys((part, unquote(part))):
                is_word = form in (form.lower(), form.upper(), form.title())
                plain = form.isalpha() and len(form) < _LONGEST_WORD and is_word
                if len(form) >= _SHORTEST_TOKEN and not plain and not is_weak(form):
                    yield Secret(form, target.name)


_SHORTEST_TOKEN, _LONGEST_WORD = 8, 20
