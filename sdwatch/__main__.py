"""`python -m sdwatch`, and the command `sdwatch`: its first lines, before anything slow."""

from __future__ import annotations

import sys

try:
    from sdwatch import signals
except KeyboardInterrupt:
    sys.exit(130)


def main() -> int:
    """Run the command that the process was started with; its exit code. A signal ends it cleanly
    at any moment: `run` with 0, because that is how it is stopped, the others with 130."""
    signals.end_at_once(0 if sys.argv[1:2] == ["run"] else signals.INTERRUPTED)
    from sdwatch import cli

    code = cli.main(unwind=signals.unwind)
    signals.keep(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
