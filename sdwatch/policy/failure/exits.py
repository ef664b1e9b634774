"""Explain exit codes: signals of POSIX, as Python reports them (-11) and as shells do (139 is
128 + 11), and statuses of Windows, with and without a sign. Pure.

Sources: signal(7); POSIX, sh: exit status; Microsoft, [MS-ERREF] 2.3.1, NTSTATUS values.
"""

from __future__ import annotations

from collections.abc import Iterable

# Written out, because Windows does not know them but may read them from a share.
_NAMES = """
SIGHUP SIGINT SIGQUIT SIGILL SIGTRAP SIGABRT SIGBUS SIGFPE SIGKILL SIGUSR1 SIGSEGV SIGUSR2 SIGPIPE
SIGALRM SIGTERM SIGSTKFLT SIGCHLD SIGCONT SIGSTOP SIGTSTP SIGTTIN SIGTTOU SIGURG SIGXCPU SIGXFSZ
SIGVTALRM SIGPROF SIGWINCH SIGIO SIGPWR SIGSYS
"""
SIGNALS = dict(enumerate(_NAMES.split(), start=1))
"""Linux's numbers."""

STATUSES = {
    0x40010004: "ended from outside, for example by a logoff",
    0x80000003: "breakpoint",
    0x887A0005: "the GPU was removed",
    0x887A0006: "the GPU hung",
    0x887A0007: "the GPU was reset",
    0x887A0020: "the GPU's driver failed",
    0xC0000005: "access violation",
    0xC0000006: "a file could not be read",
    0xC0000017: "out of memory",
    0xC000001D: "illegal instruction",
    0xC0000022: "access denied",
    0xC000007B: "a library of the wrong kind",
    0xC000008E: "division by zero",
    0xC0000094: "division by zero",
    0xC0000096: "privileged instruction",
    0xC000009A: "out of resources",
    0xC00000FD: "stack overflow",
    0xC000012D: "out of memory: the commit limit was reached",
    0xC0000135: "a library was not found",
    0xC0000139: "a library is of another version",
    0xC000013A: "Ctrl+C",
    0xC0000142: "a library did not start",
    0xC000026B: "Windows was shutting down",
    0xC0000374: "heap corruption",
    # Also of abort() of the C runtime: a fast-fail of any kind
    0xC0000409: "abort, or stack buffer overrun",
    0xC0000417: "invalid parameter of the C runtime",
    0xC000041D: "exception in a callback",
    0xC0000420: "assertion failure",
    0xE06D7363: "C++ exception",
}

_LOWEST_SIGNAL = -64
_BY_SHELL = 128
_REQUESTS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGPWR")
_OF_WINDOWS = (0x40010004, 0xC000013A, 0xC000026B)


def codes_of(name: str) -> tuple[int, int] | None:
    """Return the two exit codes of a signal, of Python and of a shell; None for no signal."""
    number = next((number for number, known in SIGNALS.items() if known == name), None)
    return None if number is None else (-number, _BY_SHELL + number)


def unsigned(code: int) -> int:
    """Return a status of Windows without its sign (-1073741819 is 0xC0000005), and any other exit
    code unchanged."""
    return code & 0xFFFFFFFF if code < _LOWEST_SIGNAL else code


def was_asked_to_end(code: int | None) -> bool:
    """Return whether a process exited as if asked to, by a signal, Ctrl+C, or a logoff."""
    return code is not None and unsigned(code) in _ASKED_TO_END


def ended_cleanly(code: int | None) -> bool:
    """Return whether it exited as if asked to, or by itself without an error."""
    return code == 0 or was_asked_to_end(code)


def was_killed(code: int | None) -> bool:
    """Return whether it was killed with SIGKILL."""
    return code in codes(["SIGKILL"])


def codes(names: Iterable[str]) -> tuple[int, ...]:
    """Return all exit codes of these signals."""
    return tuple(code for name in names for code in codes_of(name) or ())


_ASKED_TO_END = (*codes(_REQUESTS), *_OF_WINDOWS)


def exit_in_words(code: int | None) -> str:
    """Return an exit code in words: `exit code 1`, `killed by signal 9, SIGKILL` (a negative code,
    of POSIX), `exit code 139, a shell's for SIGSEGV`, `exit code 0xC0000005, access violation` (a
    status of Windows). None: only the parent process could see it, a wrapper or an earlier monitor,
    or the process is gone and nobody has seen it end."""
    if code is None:
        return "exit code unknown: another process started it, or its end was not seen"
    if _LOWEST_SIGNAL <= code < 0:
        name = SIGNALS.get(-code)
        return f"killed by signal {-code}" + (f", {name}" if name else "")
    status = unsigned(code)
    if status > 0x7FFFFFFF or status in STATUSES:
        known = STATUSES.get(status)
        return f"exit code 0x{status:X}" + (f", {known}" if known else "")
    by_signal = SIGNALS.get(code - _BY_SHELL)
    return f"exit code {code}" + (f", a shell's for {by_signal}" if by_signal else "")
