"""Who gets messages. Pure, and quick to import."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Channel(StrEnum):
    """The way to an address."""

    WEBHOOK = "webhook"
    APPRISE = "apprise"


@dataclass(frozen=True)
class Target:
    """Somebody who gets messages. `name`: what people read instead of the address, which may be a
    secret in any of its parts: its number in the config, such as `webhook 1`."""

    channel: Channel
    url: str = field(repr=False)
    name: str = ""
