"""`python -m sdwatch`, and the command `sdwatch`: its first lines, before anything slow.

Before these Python itself starts (some 15 ms), and a signal does what Python does with it.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys

_STOPPED = 0 if sys.argv[1:2] == ["run"] else 130
"""The exit code where a signal comes before the command has begun: see ExitCode."""

try:
    from sdwatch.system import signals
except KeyboardInterrupt:
    sys.stderr.write("sdwatch: stopped by Ctrl-C\n")
    sys.exit(_STOPPED)


def main() -> int:
    """Run the command that the process was started with; its exit code. A signal ends it cleanly
    at any moment: `run` with 0, because that is how it is stopped, the others with 130."""
    signals.end_at_once(_STOPPED)
    # What is imported stays, so nobody looks for garbage in it: not before all of it is there (then
    # `cli.main` freezes it), nor while Python ends. That was a quarter of `status`, and 60 ms of
    # each `run`.
    gc.disable()
    atexit.register(gc.freeze)
    if "_ARGCOMPLETE" in os.environ:  # a shell asks what could follow
        from sdwatch.cli.completion import complete

        complete()
        return 0
    from sdwatch import cli

    code = cli.main(unwind=signals.unwind)
    signals.keep(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
