"""Detect replies that do not name the cause of a failure: empty or generic error texts. Pure."""

from __future__ import annotations

import re

from sdwatch.errors import WebUIError, WebUIReplyError, WebUIServerError
from sdwatch.policy.failure.facts import FailureFacts

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
