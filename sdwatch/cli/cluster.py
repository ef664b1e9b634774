"""`sdwatch cluster`: the broker of several machines on one inbox, and what they do."""

from __future__ import annotations

import argparse
import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sdwatch import system
from sdwatch.cli.shared.chosen_config import add_config_argument, choose_config
from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.cli.shared.plain_lines import say
from sdwatch.errors import NotFoundError, SdwatchError
from sdwatch.policy.report.status_line import box_lines
from sdwatch.system import disk, signals
from sdwatch.system.clock import SystemClock, wait

if TYPE_CHECKING:
    from sdwatch.cluster.board import Board
    from sdwatch.cluster.server import ServerSettings
    from sdwatch.monitor.work import Partner
    from sdwatch.policy.cluster.cards import BoxOrder

_ANSWERS_WITHIN = 10.0  # seconds
_LONGEST_URL = 2000
_SELF = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Where this machine reaches a server that listens everywhere."""
_SHOWS_ITSELF = 30.0  # seconds within which a box that works has shown itself again


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument(
        "what", choices=("up", "status"), help="up: run the broker; status: show the boxes"
    )
    add_config_argument(parser)
    add_broker_argument(parser)
    parser.add_argument("--json", action="store_true", help="for status: print JSON")
    parser.add_argument(
        "--host",
        metavar="ADDRESS",
        default="127.0.0.1",
        help="for up: where to listen; default: 127.0.0.1, which only this machine reaches "
        "(0.0.0.0: everywhere)",
    )
    parser.add_argument("--port", type=int, default=4222, help="for up: default: 4222")
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help="for up: certificate (PEM)")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="for up: its key (PEM)")
    parser.epilog = (
        "`up` starts a NATS server, keeps it alive, and prints what to type on other machines.\n"
        "Ctrl-C stops it. It needs the packages of sdwatch[cluster]; see docs/cluster.md."
    )


def add_broker_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--cluster`: which broker is asked."""
    parser.add_argument(
        "--cluster",
        metavar="URL",
        default="",
        help="the broker, nats://TOKEN@HOST:PORT, or a file that has this URL; default: the one "
        "that `sdwatch cluster up` runs here, or `sdwatch run --dispatch` was given",
    )


def main(args: argparse.Namespace) -> ExitCode:
    """Run the broker, or ask it. Raises SdwatchError, OSError."""
    folder = choose_config(args.config).config.state / "nats"
    if args.what == "up":
        return _up(args, folder)
    with board_of(args) as board:
        return _status(board, as_json=args.json)


@contextmanager
def board_of(args: argparse.Namespace) -> Iterator[Board]:
    """Return the board of the broker that `args` name. Raises SdwatchError where nobody
    answers."""
    url = url_of(args.cluster or _own_url(choose_config(args.config).config.state / "nats"))
    try:
        from sdwatch.cluster.board import Board
        from sdwatch.cluster.broker import Broker
    except ModuleNotFoundError as error:
        raise _without_extra(error) from error
    from sdwatch.policy.cluster.names import Times

    answered = threading.Event()
    broker = Broker(url, "command", Times(), lambda _: answered.set())
    broker.open()
    try:
        if not wait(answered, _ANSWERS_WITHIN):
            raise SdwatchError(f"the broker at {broker.place} does not answer: {broker.why_down}")
        yield Board(broker)
    finally:
        broker.close()


def order_box(args: argparse.Namespace, change: Callable[[BoxOrder], BoxOrder]) -> None:
    """Change what is wanted of the box `args.box`. Raises NotFoundError, SdwatchError."""
    with board_of(args) as board:
        boxes = board.boxes()
        if args.box not in boxes:
            known = ", ".join(sorted(boxes)) or "none has shown itself yet"
            raise NotFoundError(f"there is no box {args.box!r}; boxes: {known}")
        board.order(args.box, change(board.order_for(args.box)))


def partner_of(cluster: str, dispatch: str) -> Partner:
    """Return what makes a monitor a box of the cluster at the URL `cluster`, or the dispatcher of
    the one at `dispatch`; one of the two is ''. Raises SdwatchError."""
    if cluster and dispatch:
        raise SdwatchError(
            "--cluster makes a box of this machine, --dispatch the dispatcher: give one"
        )
    try:
        from sdwatch.cluster.box import Box
        from sdwatch.cluster.dispatcher import Dispatcher
    except ModuleNotFoundError as error:
        raise _without_extra(error) from error
    return Box(url_of(cluster)) if cluster else Dispatcher(url_of(dispatch))


def broker_of(given: str, state: Path) -> str:
    """Return the URL that `--dispatch` names; '' stands for the one that was used here. Raises
    SdwatchError."""
    return url_of(given or _own_url(state / "nats"))


def remember_broker(state: Path, url: str) -> None:
    """Keep the broker's URL for commands here, readable by this user only. Raises OSError."""
    folder = state / "nats"
    disk.ensure_folder(folder)
    disk.keep_private(folder)
    disk.write(folder / "url", url.encode())


def url_of(given: str) -> str:
    """Return the broker's URL: as it was given, or from the file of that name. Raises
    SdwatchError."""
    url = given
    if "://" not in given:
        try:
            url = disk.read(Path(given))[:_LONGEST_URL].decode("utf-8-sig").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SdwatchError(f"{given}: neither a URL nor a readable file with one") from error
    if any(sign.isspace() for sign in url) or not all(map(_is_server, url.split(","))):
        raise SdwatchError("the broker's URL must be nats://TOKEN@HOST:PORT, or tls:// with TLS")
    return url


def _is_server(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("nats", "tls") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _without_extra(error: ModuleNotFoundError) -> SdwatchError:
    if (error.name or "").partition(".")[0] != "nats":
        raise error
    return SdwatchError('a cluster needs more packages: python -m pip install "sdwatch[cluster]"')


def _up(args: argparse.Namespace, folder: Path) -> ExitCode:
    from sdwatch.cluster.server import Server, ServerSettings, alone, program, token_in

    if (args.tls_cert is None) != (args.tls_key is None):
        raise SdwatchError("--tls-cert and --tls-key belong together: give both or none")
    program()
    tls = args.tls_cert and args.tls_cert.absolute(), args.tls_key and args.tls_key.absolute()
    settings = ServerSettings(folder, args.host, args.port, *tls)
    with alone(settings):
        token = token_in(folder)
        here = _SELF.get(settings.host, settings.host)
        remember_broker(folder.parent, _url(settings, here, token))
        stop = threading.Event()
        signals.catch(lambda *_: stop.set())
        server = Server(settings, SystemClock(), stop, lambda line: print(line, file=sys.stderr))
        announcing = threading.Thread(target=_announce, args=(settings, token, stop), daemon=True)
        announcing.start()
        server.run()
    return ExitCode.OK


def _url(settings: ServerSettings, host: str, token: str) -> str:
    scheme = "tls" if settings.certificate else "nats"
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{token}@{shown}:{settings.port}"


def _announce(settings: ServerSettings, token: str, stop: threading.Event) -> None:
    """Say what to type on the other machines, once the server listens. The token is shown to a
    terminal only: a log is read by others."""
    while not system.somebody_listens(_SELF.get(settings.host, settings.host), settings.port):
        if wait(stop, 0.2):
            return
    shown = token if sys.stdout.isatty() else "TOKEN"
    everywhere = settings.host in ("0.0.0.0", "::")
    host = socket.gethostname() if everywhere else settings.host
    say(f"The broker listens on {settings.host}, port {settings.port}. On each other machine:")
    say('    python -m pip install "sdwatch[cluster]"')
    say(f"    sdwatch run --cluster {_url(settings, host, shown)}")
    say("On the machine with the inbox:")
    say("    sdwatch run --dispatch")
    if shown == "TOKEN":
        say(f"TOKEN is in {settings.folder / 'token'}")
    if settings.host in ("127.0.0.1", "::1", "localhost"):
        say("Other machines cannot reach it yet: start it with --host 0.0.0.0 for that.")


def _own_url(folder: Path) -> str:
    file = folder / "url"
    if not disk.is_file(file):
        raise SdwatchError("which broker? Give it as --cluster URL; `sdwatch cluster up` prints it")
    return str(file)


def _status(board: Board, *, as_json: bool) -> ExitCode:
    found = _boxes_on(board)
    if as_json:
        print(json.dumps({"boxes": found}, indent=2))
        return ExitCode.OK
    if not found:
        say("No box has shown itself yet. Start one with: sdwatch run --cluster URL")
    for name, box in found.items():
        for line in box_lines(name, box):
            say(line)
    return ExitCode.OK


def _boxes_on(board: Board) -> dict[str, dict[str, Any]]:
    from sdwatch.cluster.boxes import box_status
    from sdwatch.policy.cluster.cards import BoxOrder
    from sdwatch.policy.cluster.lists import lists_in

    orders, ages, found = board.orders(), board.ages(), {}
    for name, (_, shown) in sorted(board.boxes().items()):
        known = {}
        for lane in shown.lanes:
            with suppress(ValueError):
                known[lane.lists] = lists_in(board.lists(name, lane.name))
        ago = ages.get(name, 0.0)
        found[name] = {
            **box_status(
                shown,
                orders.get(name, BoxOrder()),
                known,
                checkpoints=None,
                answers=ago < _SHOWS_ITSELF,
                seconds_ago=ago,
            ),
            "runs": shown.held,
        }
    return found
