"""`sdwatch notify test`: send a test message to each address in the config's `notify:`."""

from __future__ import annotations

import argparse
import socket
from concurrent.futures import ThreadPoolExecutor

from sdwatch.cli.shared.chosen_config import add_config_argument, choose_config
from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.errors import SdwatchError
from sdwatch.notify.delivery import in_words
from sdwatch.notify.send import LIMIT_S, send
from sdwatch.policy.notify.message import Message, json_of
from sdwatch.policy.notify.notify_settings import targets_of


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument("action", choices=["test"], help="send a test message to each address")
    add_config_argument(parser)
    parser.epilog = (
        f"It works with and without a running monitor, and takes at most {LIMIT_S:g} s. The exit\n"
        "code is 1 if a message did not arrive. docs/notifications.md explains `notify:`."
    )


def main(args: argparse.Namespace) -> ExitCode:
    """Send them. Raises ConfigError, SdwatchError."""
    config = choose_config(args.config).config
    targets = targets_of(config.notify)
    if not targets:
        raise SdwatchError(
            "the config has no address to send messages to: add `notify:` with `webhooks:` or "
            "`apprise:` (docs/notifications.md)"
        )
    body = json_of(Message(test=True), socket.gethostname())
    with ThreadPoolExecutor(len(targets)) as pool:
        outcomes = [*pool.map(lambda target: send(target, body), targets)]
    for target, outcome in zip(targets, outcomes, strict=True):
        print(f"{target.name}: {in_words(outcome)}")
    return ExitCode.OK if all(o.arrived for o in outcomes) else ExitCode.ERROR
