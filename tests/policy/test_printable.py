"""What others wrote, on a terminal and in a log."""

from __future__ import annotations

import logging

from sdwatch.cli.shared.log_files import _Lines, _WarningHandler
from sdwatch.policy.privacy.printable import printable, printable_text
from sdwatch.policy.report.notice import Notice
from tests.support.tables import table


@table(
    ("text", "expected"),
    [
        ("two\nlines\tand 悪い　もの, naïve\xa0🎨", "two\nlines\tand 悪い　もの, naïve\xa0🎨"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("over\rwritten\x08\x07", "over\\rwritten\\x08\\x07"),
        ("\x9b2J\x7f", "\\x9b2J\\x7f"),
        ("\u202egnp.exe\u2066", "\\u202egnp.exe\\u2066"),
        ("half \ud800", "half \\ud800"),
    ],
)
def test_no_sign_commands_a_terminal(text: str, expected: str) -> None:
    assert printable_text(text) == expected
    assert printable_text(expected) == expected


def test_a_name_is_one_line() -> None:
    assert printable("a\nb\x1b\u2028") == "a\\nb\\x1b\\u2028"


def test_a_line_of_the_log_is_printable() -> None:
    record = logging.makeLogRecord({"msg": "said %s", "args": ("\x1b[2J",), "extra": "\x07"})
    assert _Lines("%(message)s").format(record) == "said \\x1b[2J extra=\\x07"
    shown: list[Notice] = []
    _WarningHandler(shown.append).emit(record)
    assert [notice.text for notice in shown] == ["said \\x1b[2J"]
