"""`sdwatch web`: serve the live page of a spool, or keep its metrics in a file."""

from __future__ import annotations

import argparse
import os
import socket
import sys
import threading
from pathlib import Path

from sdwatch.cli.shared.chosen_config import ChosenConfig, add_config_argument, choose_config
from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.cli.shared.plain_lines import say
from sdwatch.errors import SdwatchError
from sdwatch.system import signals

PORT = 7880
_EXTRA = ("starlette", "uvicorn", "python_multipart", "anyio", "h11")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    add_config_argument(parser)
    parser.add_argument(
        "--host",
        metavar="ADDRESS",
        default="127.0.0.1",
        help="where to listen; default: 127.0.0.1, which only this machine reaches. With any "
        "other address (0.0.0.0: all of them) each page needs the token",
    )
    parser.add_argument("--port", type=int, default=PORT, help=f"default: {PORT}")
    parser.add_argument(
        "--url",
        metavar="URL",
        default="",
        help="how browsers reach it through a reverse proxy, such as https://render.example.org",
    )
    parser.add_argument(
        "--textfile",
        type=Path,
        metavar="FILE",
        help="serve nothing: keep the metrics in FILE, for node_exporter's textfile collector",
    )
    parser.epilog = (
        "It prints a link with a token, which lets a browser press buttons. The token is made at\n"
        "the first start, and kept in the state folder as web-token; remove it to get another.\n"
        "Ctrl-C stops it. It needs the packages of sdwatch[web]; --textfile does not."
    )


def main(args: argparse.Namespace) -> ExitCode:
    """Serve until stopped. Raises ConfigError, SdwatchError, OSError."""
    chosen = choose_config(args.config)
    if args.textfile is not None:
        return _keep_textfile(args.textfile.absolute(), chosen)
    return _serve(chosen, args.host, args.port, args.url)


def _keep_textfile(file: Path, chosen: ChosenConfig) -> ExitCode:
    from sdwatch.web.metrics import keep_textfile

    if file.suffix != ".prom":
        raise SdwatchError(f"--textfile {file}: node_exporter reads only files that end in .prom")
    stop = threading.Event()
    signals.catch(lambda *_: stop.set())
    keep_textfile(file, chosen.spool, stop, lambda line: print(line, file=sys.stderr, flush=True))
    return ExitCode.OK


def _serve(chosen: ChosenConfig, host: str, port: int, url: str) -> ExitCode:
    try:
        from sdwatch.web.access import Access, checked_url, token_in
        from sdwatch.web.page_server import WebServer, listen
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        raise SdwatchError(
            'sdwatch web needs more packages: python -m pip install "sdwatch[web]"'
        ) from error
    access = Access(token_in(chosen.config.state), host, checked_url(url) if url else "")
    listener = listen(host, port)
    server = WebServer(chosen.spool, chosen.config, access, listener)
    is_second = signals.SecondRequest()
    signals.catch(lambda number, _: server.stop(now=is_second(number)))
    _announce(access.token, url or _url_of(host, listener.getsockname()[1]), chosen)
    server.run()
    return ExitCode.OK


def _announce(token: str, url: str, chosen: ChosenConfig) -> None:
    """Print the link. The token is shown to a terminal only: a log is read by others."""
    say(f"sdwatch web shows {chosen.spool.root} at {url}")
    if sys.stdout.isatty():
        say(f"To press buttons, open {url}/?token={token}")
    else:
        place = os.path.join(chosen.config.state, "web-token")  # noqa: PTH118
        say(f"To press buttons, open {url}/?token= with the token in {place}")


def _url_of(host: str, port: int) -> str:
    if host in ("0.0.0.0", "::"):
        host = socket.gethostname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
