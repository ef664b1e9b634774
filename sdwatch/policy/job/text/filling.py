"""Fill the names in a part of a job file, as `${sampler}`, with their values. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from sdwatch.policy.job.text.document import MistakeError, Node, Scalar, Sequence, scalars_in

NAME = re.compile(r"[A-Za-z_]\w{0,39}(?:\.[A-Za-z_]\w{0,39})?")
_USE = re.compile(rf"(\$?)\$\{{({NAME.pattern})\}}")

MOST_FILLED = 1_000_000
"""Characters of a stage's filled texts. A megabyte of `${x}` with a long value is not a job."""


class FilledTooLongError(MistakeError):
    """A stage becomes too long with its values."""

    def __init__(self, node: Scalar) -> None:
        message = f"with its values the stage has more than {MOST_FILLED:,} characters"
        super().__init__(node, message)


def names_in(node: Node) -> Iterable[tuple[Scalar, str]]:
    """Yield each text that uses a name, with the name."""
    for text in scalars_in(node):
        yield from ((text, use[2]) for use in _USE.finditer(text.text) if not use[1])


class Filler:
    """Fills one stage with the values of a point."""

    def __init__(self, values: Mapping[str, Scalar]) -> None:
        self._values = values
        self._left = MOST_FILLED

    def filled(self, node: Node) -> Node:
        """Return a node with the values of the names in it. A text that is one name alone becomes
        its value, with the place where that is written; `$${x}` stands for the text `${x}`, and
        what has no value is left as it is. A value is not filled again. Raises
        FilledTooLongError."""
        if isinstance(node, Scalar):
            return self._text(node)
        if isinstance(node, Sequence):
            return replace(node, items=tuple(map(self.filled, node.items)))
        entries = tuple((key, self.filled(value)) for key, value in node.entries)
        return replace(node, entries=entries)

    def _text(self, node: Scalar) -> Scalar:
        if "${" not in node.text:
            return node
        values = self._values
        whole = _USE.fullmatch(node.text)
        if whole and not whole[1] and whole[2] in values:
            self._count(node, len(values[whole[2]].text))
            return values[whole[2]]
        length = len(node.text)
        for use in _USE.finditer(node.text):
            length += len(values[use[2]].text) if use[2] in values else 0
            if length > self._left:
                break
        self._count(node, length)

        def value(use: re.Match[str]) -> str:
            if use[1]:
                return use[0][1:]
            return values[use[2]].text if use[2] in values else use[0]

        return replace(node, text=_USE.sub(value, node.text))

    def _count(self, node: Scalar, length: int) -> None:
        self._left -= length
        if self._left < 0:
            raise FilledTooLongError(node)
