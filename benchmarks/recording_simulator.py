"""The simulator, which also writes down when it was started and when each POST came in.

`python recording_simulator.py FILE --port N ...`: FILE gets a line for each, `start PID SECONDS`
and `post PID SECONDS`, on the machine's monotonic clock.
"""

import time

_BEGUN = time.monotonic()  # before the imports, which take longer than the start itself

import os  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402


def note(event: str, at: float) -> None:
    """Append a line, in one write."""
    with open(_FILE, "a", encoding="ascii") as file:
        file.write(f"{event} {os.getpid()} {at!r}\n")


if __name__ == "__main__":
    _FILE = Path(sys.argv.pop(1))
    note("start", _BEGUN)

    from sdwatch.simulator import __main__ as simulator
    from sdwatch.simulator import server

    class _RecordingHandler(server.Handler):
        def do_POST(self) -> None:  # noqa: N802
            note("post", time.monotonic())
            self._serve()

    server.Handler = _RecordingHandler  # type: ignore[misc]
    simulator.main()
