"""Tracebacks in a WebUI's output: which are whole, what raised them, and whose they are. Pure.

Lines as log_lines.split_lines gives them: without blank lines, and none that has no line end yet.

Replies that do not name a cause, empty or generic error texts, are opaque: only a traceback helps.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sdwatch.errors import WebUIError, WebUIReplyError, WebUIServerError
from sdwatch.policy.failure.error_lines import FRAME_SIGN, TRACEBACK, error_blocks, is_error
from sdwatch.policy.failure.facts import FailureFacts
from sdwatch.policy.privacy.printable import shortened

_LONGEST = 300  # characters of an error text that are compared

# A body that says nothing about the cause: none, the server's own text, a page for browsers, and
# what stable-diffusion.cpp says of every failure (source).
_SAYS_NOTHING = re.compile(
    r"\s*+(Internal Server Error\s*|generate_image returned \w{1,20} results\s*|<.*)?",
    re.DOTALL | re.IGNORECASE,
)


# What Python says after an earlier error was caught: its result is missing. Such a text says where
# that was noticed but not why (A1111#14623, amdgpu#355, reForge#292).
_GENERIC = re.compile(
    r"""\W*(cannot unpack non-iterable )?'?NoneType'? object\b
    |(object|argument) of type '?NoneType'?
    |unsupported operand type[^\n]*'NoneType'
    |'[<>=]{1,2}' not supported between [^\n]*'NoneType'
    |[^\n]*\b(not|got|found) '?NoneType\b
    |(list|tuple|string) (assignment )?index out of range
    |pop (from|index) (empty|out)
    |(not enough|too many) values to unpack
    |(cannot access )?local variable \S+ (referenced before|where it is not associated)
    |generator didn't yield
    """.replace("\n    ", ""),
    re.IGNORECASE,
)


def says_nothing(error: WebUIError) -> bool:
    """Return whether a WebUI's reply says nothing about what failed."""
    return _SAYS_NOTHING.fullmatch(error.said) is not None


def is_generic(error: WebUIError) -> bool:
    """Return whether a WebUI's reply has the text of an exception that anything may cause."""
    is_one = isinstance(error, WebUIServerError)
    return is_one and _GENERIC.match(error.said[:_LONGEST].strip()) is not None


# Exceptions about an unexpected value, which do not say what failed: A1111#14623, amdgpu#355 and
# reForge#292 are memory errors that end like this.
_VALUE_ERRORS = (
    "TypeError",
    "AttributeError",
    "IndexError",
    "UnboundLocalError",
    "NameError",
    "ZeroDivisionError",
    "StopIteration",
)


def complains_of_a_value(error: WebUIError) -> bool:
    """Return whether the exception is about a missing or unexpected value."""
    if not isinstance(error, WebUIServerError):
        return False
    kind = error.kind.rpartition(".")[2]
    return kind in _VALUE_ERRORS or is_generic(error)


def is_opaque(facts: FailureFacts) -> bool:
    """Return whether the error says nothing about its cause, so that the log may: a 200 without
    what was asked for, or an exception without a text. If an exception has a text, the rest of the
    log is unrelated, such as what SD.Next writes about the machine after each picture."""
    if isinstance(facts.error, WebUIServerError):
        return says_nothing(facts.error)
    return isinstance(facts.error, WebUIReplyError)


_EXCEPTION = re.compile(r"(?P<name>(?:[^\W\d]\w*+\.)*+[^\W\d]\w*+)(?::\s*+(?P<text>.*)|\s*+)$")
_LEVEL = re.compile(r"(?:INFO|DEBUG|WARNING|ERROR|CRITICAL|FATAL|TRACE):?\b")
_FILE = re.compile(r'\s*+File "(?P<file>[^"]+)", line (?P<line>\d++)(?:, in (?P<function>.+))?$')
_PLACE = re.compile(r"[\s│]*(?P<file>[^\s:│][^:│]*):(?P<line>\d+) in (?P<function>[^\s│]+)[\s│]*$")
_DRAWN_CODE = re.compile(rf"{FRAME_SIGN}\s*+\d++\s*+│(?P<code>.*)$")
_MARKS = re.compile(r"[\s^~]+")
_PASSED_OVER = re.compile(
    r"(?:\*\*\* )?Error (?:running|executing callback|calling|loading script)\b"
    r"|.{0,60}(?:Running|Load|Calling) script\b|.{0,60}Executing callback: "
)
_HTTP_EXCEPTION = "HTTPException"
_BY_SERVER = "Exception in ASGI application"
_ABOVE = 20  # lines of an error above its traceback
_COMPARED = 60  # characters of a message: SD.Next wraps its own line
_LONGEST_CODE = 200


@dataclass(frozen=True)
class Frame:
    """Where an exception was raised. `code`: that line of source, '' where it is not shown."""

    file: str
    line: int
    function: str
    code: str = ""

    def __str__(self) -> str:
        where = f"{self.file}, line {self.line}"
        in_function = f", in {self.function}" if self.function else ""
        return f"{where}{in_function}" + (f": {self.code}" if self.code else "")


@dataclass(frozen=True)
class Traceback:
    """Lines [start, end) of a log; the error right above it is its first line. `exception`: its
    last line, as `KeyError: 'x'`, '' while that is not written. `frame`: the innermost.
    `passed_over`: an extension raised it, and the WebUI went on (see extensions.py)."""

    start: int
    end: int
    exception: str
    frame: Frame | None
    by_server: bool = False
    passed_over: bool = False

    @property
    def is_whole(self) -> bool:
        """Return whether its last line is there, with its line end."""
        return bool(self.exception)

    @property
    def name(self) -> str:
        """Return the exception's class, without its modules."""
        found = _EXCEPTION.match(self.exception)
        return found["name"].rpartition(".")[2] if found else ""

    @property
    def text(self) -> str:
        """Return what the exception says, as far as it stands in that line."""
        found = _EXCEPTION.match(self.exception)
        return (found["text"] or "").strip() if found else ""

    def __str__(self) -> str:
        return self.exception + (f", raised in {self.frame}" if self.frame else "")


def tracebacks(lines: Sequence[str]) -> list[Traceback]:
    """Return all tracebacks, in order. One that was chained ("During handling of …") is several
    here."""
    return list(_found(lines))


def _found(lines: Sequence[str]) -> Iterator[Traceback]:
    first = next((n for n, line in enumerate(lines) if TRACEBACK in line or FRAME_SIGN in line), -1)
    if first < 0:
        return
    offset = max(0, first - _ABOVE)  # a flood before it costs nothing
    for block in error_blocks(lines[offset:]):
        if not block.traceback:
            continue
        start, end = offset + block.start, offset + block.end
        body = lines[start:end]
        last = body[-1].strip() if len(body) > 1 else ""
        whole = last if _is_exception(last) else ""
        by_server = any(_BY_SERVER in line for line in body)
        passed_over = _PASSED_OVER.match(body[0]) is not None
        yield Traceback(start, end, whole, _innermost(body), by_server, passed_over)


def _is_exception(line: str) -> bool:
    return _EXCEPTION.match(line) is not None and _LEVEL.match(line) is None


def names_exception(line: str) -> bool:
    """Return whether a line is the last of a traceback, as `KeyError: 'x'`."""
    return is_error(line) and _is_exception(line.strip())


def frames(body: Sequence[str]) -> list[Frame]:
    """The frames of a traceback's lines, the innermost last."""
    return [frame for at in range(len(body)) if (frame := _frame_at(body, at))]


def _innermost(body: Sequence[str]) -> Frame | None:
    return next(filter(None, (_frame_at(body, at) for at in reversed(range(len(body))))), None)


def _frame_at(body: Sequence[str], at: int) -> Frame | None:
    if (found := _FILE.match(body[at])) is not None:
        return _frame(found, _code_below(body, at))
    if (found := _PLACE.match(body[at])) is not None:
        return _frame(found, _drawn_code(body[at:]))
    return None


def _frame(found: re.Match[str], code: str) -> Frame:
    return Frame(found["file"].strip(), int(found["line"]), found["function"] or "", code)


def _code_below(body: Sequence[str], at: int) -> str:
    code = body[at + 1] if at + 2 < len(body) else ""  # the last line is the exception's own
    return "" if _MARKS.fullmatch(code) else shortened(code.strip(), _LONGEST_CODE)


def _drawn_code(body: Iterable[str]) -> str:
    found = next((match for line in body if (match := _DRAWN_CODE.search(line))), None)
    return shortened(found["code"].strip(" │"), _LONGEST_CODE) if found else ""


def last_words(outputs: Iterable[Sequence[str]]) -> Traceback | None:
    """Return the traceback with which one of these outputs ends; one after which more was printed
    has not ended the process."""
    for lines in outputs:
        found = tracebacks(lines)
        if found and found[-1].is_whole and found[-1].end == len(lines):
            return found[-1]
    return None


# -- whose they are


def may_follow(error: WebUIError) -> bool:
    """Return whether the WebUI may print why only after its reply: after a 500, and after a 200
    that is not what was asked for. (Where the connection broke, the end of the process is waited
    for.)"""
    return isinstance(error, WebUIServerError | WebUIReplyError)


@dataclass(frozen=True)
class Raised:
    """What a reply says was raised: the class ('' where it names none) and the text. `is_printed`:
    the WebUI prints a traceback of it, as it does of all but its own HTTPException (measured)."""

    kind: str = ""
    said: str = ""
    is_printed: bool = False

    def fits(self, traceback: Traceback) -> bool:
        """Return whether this may be its traceback: the same class and text, where the reply has
        them."""
        if not traceback.is_whole or traceback.passed_over:
            return False
        if not self.kind:
            return True
        said, text = self.said.partition("\n")[0].strip(), traceback.text
        length = min(len(said), len(text), _COMPARED)
        is_same = said[:length] == text[:length] and bool(said) == bool(text)
        return traceback.name == self.kind.rpartition(".")[2] and is_same

    def fits_later(self, traceback: Traceback) -> bool:
        """Return whether it may be its traceback in the log of a later call, where it must not be
        that call's own: without a class only what the server itself prints."""
        return self.fits(traceback) and (bool(self.kind) or traceback.by_server)


def raised_by(error: WebUIError) -> Raised:
    """Return what a failed call's reply says was raised. The text of a 200 is ours, and says
    nothing of it."""
    if error.status == 200:
        return Raised()
    printed = error.kind != _HTTP_EXCEPTION if error.kind else says_nothing(error)
    return Raised(error.kind, error.said, printed)


def own(lines: Sequence[str], error: WebUIError) -> Traceback | None:
    """Return the traceback that explains a failed call, of those that its log has: the last that
    fits."""
    raised = raised_by(error)
    fitting = [each for each in tracebacks(lines) if raised.fits(each)]
    return fitting[-1] if fitting else None


def without(lines: Sequence[str], owed: Sequence[Raised]) -> tuple[tuple[str, ...], list[Raised]]:
    """Return a call's log without the late tracebacks of the calls before it, and what these still
    owe.

    Each takes the first that fits. If the log starts in the middle of one, its rest is taken.
    """
    left, dropped = list(owed), set[int]()
    if not left:
        return tuple(lines), left
    for start, found in _with_a_torn_one(lines):
        match = next((each for each in left if each.fits_later(found)), None)
        if match is not None:
            left.remove(match)
            dropped |= set(range(start, found.end))
    return tuple(line for at, line in enumerate(lines) if at not in dropped), left


def _with_a_torn_one(lines: Sequence[str]) -> Iterator[tuple[int, Traceback]]:
    for offset in (0, 1):  # the first line may be the end of one
        outside = (at for at in range(offset, len(lines)) if lines[at][:1] != " ")
        end = next(outside, len(lines))
        if offset < end < len(lines) and _is_exception(lines[end].strip()):
            last = lines[end].strip()
            yield 0, Traceback(0, end + 1, last, _innermost(lines[: end + 1]), by_server=True)
            break
    for found in tracebacks(lines):
        yield found.start, found
