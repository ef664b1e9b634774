"""Parse YAML text into a tree of nodes with their places; nothing is typed here.

Bounded in every direction before anything is built: bytes, depth, number of nodes. Anchors,
aliases and tags are refused: an alias bomb needs them, and in a prompt they are an accident.
Only parser events are used, because the loaders of PyYAML 6.0.3 recurse without a limit: the
one written in C takes the process down at 100,000 `[`.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import yaml

from sdwatch.errors import FileProblems, Problem
from sdwatch.policy.naming import shown

MAX_BYTES = 1_000_000
MAX_DEPTH = 32
MAX_NODES = 20_000
LINES = 1 << 25
"""More than a file has. The lines of another file that is read with a document are counted on from
here, see sources.py."""

_LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]")
_HALF = re.compile("[\ud800-\udfff]")
_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
_COMMENT = re.compile(r"[ \t]+(#[^\r\n]*)")
_MAGIC = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"GIF8": "a GIF picture",
    b"RIFF": "a WebP picture",
    b"PK\x03\x04": "a ZIP archive",
    b"%PDF": "a PDF",
    b"\x1f\x8b": "a gzip archive",
    b"\x7fELF": "a program",
    b"MZ\x90": "a program",
}
_BLANK = b"\x00 \t\r\n"
_UTF16 = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")


@dataclass(frozen=True, slots=True)
class Scalar:
    """Text as written. `comment`: what a ` #` cut off after unquoted text, else ''."""

    text: str
    line: int
    column: int
    quoted: bool = False
    comment: str = ""

    @property
    def is_null(self) -> bool:
        """Return whether nothing was written, or `null` or `~` without quotes."""
        return not self.quoted and self.text in ("", "~", "null", "Null", "NULL")


@dataclass(frozen=True, slots=True)
class Sequence:
    items: tuple[Node, ...]
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Mapping:
    """Entries in the order of the file; the same key may be there twice (see `unique`)."""

    entries: tuple[tuple[Scalar, Node], ...]
    line: int
    column: int


Node = Scalar | Sequence | Mapping


def is_null(node: Node | None) -> bool:
    """Return whether it is there and says nothing."""
    return isinstance(node, Scalar) and node.is_null


def scalars_in(node: Node) -> Iterator[Scalar]:
    """Yield each text in a node, but for keys."""
    if isinstance(node, Scalar):
        yield node
        return
    parts = node.items if isinstance(node, Sequence) else (value for _, value in node.entries)
    for part in parts:
        yield from scalars_in(part)


def too_large(size: int) -> Problem | None:
    """Return what is wrong with a file of `size` bytes, before it is read; None if nothing is."""
    if size <= MAX_BYTES:
        return None
    return Problem(
        1, 1, f"the file has {size:,} bytes; at most {MAX_BYTES:,} are read. Is this a YAML file?"
    )


def parse_document(data: bytes, file: str) -> Node:
    """Return the tree of one YAML document; UTF-8, with or without BOM, any line ends.

    Raises FileProblems, with places in `file`, where this cannot be read as YAML.
    """
    if problem := too_large(len(data)):
        raise FileProblems(file, [problem])
    try:
        text = text_of(data)
        composer = _Composer(_as_yaml(text))
        node = composer.document()
    except UnreadableError as error:
        raise FileProblems(file, [error.problem]) from None
    except yaml.YAMLError as error:
        problem = written_wrong(text) or _located(error, text)
        raise FileProblems(file, composer.problems or [problem]) from None
    except (ValueError, OverflowError):  # from PyYAML's own parser, where there is no libyaml
        raise FileProblems(file, [Problem(1, 1, "a number or an escape is too large")]) from None
    if composer.problems:
        raise FileProblems(file, composer.problems)
    return node


def open_end(root: Node, data: bytes) -> tuple[int, int] | None:
    """Return the place of the last value if the text stops within it, as in `steps: 2` without a
    line end, where more may follow; None if it does not."""
    node = root
    while not isinstance(node, Scalar):
        last = node.items if isinstance(node, Sequence) else node.entries
        if not last:
            return None
        entry = last[-1]
        node = entry[1] if isinstance(entry, tuple) else entry
    ends_so = data.endswith(node.text.encode()) if node.text else data.rstrip().endswith(_OPENS)
    return (node.line, node.column) if ends_so and not node.quoted else None


_OPENS = (b":", b"-", b"?")
"""After these a value is still missing."""


def unique(mapping: Mapping, problems: list[Problem]) -> dict[str, tuple[Scalar, Node]]:
    """Return the entries by key; add a problem for each key that is there twice."""
    found: dict[str, tuple[Scalar, Node]] = {}
    for key, value in mapping.entries:
        if key.text in found:
            first = found[key.text][0].line % LINES
            message = f"{shown(key.text)} is there twice, first in line {first}; keep one"
            problems.append(Problem(key.line, key.column, message))
        else:
            found[key.text] = (key, value)
    return found


class UnreadableError(Exception):
    """Something in a file cannot be read; `problem` says where, and why."""

    def __init__(self, line: int, column: int, message: str, *, unfinished: bool = False) -> None:
        super().__init__(message)
        self.problem = Problem(line, column, message, unfinished)

    def moved(self, lines: int) -> UnreadableError:
        """Return the same with its line counted on by so many."""
        wrong = self.problem
        place = (lines + wrong.line, wrong.column)
        return UnreadableError(*place, wrong.message, unfinished=wrong.unfinished)


class MistakeError(UnreadableError):
    """What `node` says is wrong."""

    def __init__(self, node: Node, message: str, *, unfinished: bool = False) -> None:
        super().__init__(node.line, node.column, message, unfinished=unfinished)


def problem_at(node: Node, message: str, *, unfinished: bool = False) -> Problem:
    """Return what is wrong with what `node` says."""
    return Problem(node.line, node.column, message, unfinished)


def text_of(data: bytes) -> str:
    """Return the text of a file in UTF-8, with or without BOM. Raises UnreadableError."""
    for magic, what in _MAGIC.items():
        if data.startswith(magic):
            raise UnreadableError(1, 1, f"this is not a text file (looks like {what})")
    if data.startswith(_UTF16):
        message = (
            "this text is UTF-16 or UTF-32; save the file as UTF-8 (Notepad: Save as, Encoding; "
            "PowerShell: Out-File -Encoding utf8)"
        )
        raise UnreadableError(1, 1, message)
    if not data.strip(_BLANK):
        zeros = "the file has only zero bytes; it was not written completely"
        message = zeros if b"\x00" in data else "the file is empty"
        raise UnreadableError(1, 1, message, unfinished=True)
    if b"\x00" in data.rstrip(_BLANK):
        raise UnreadableError(1, 1, "this is not a text file (it has zero bytes); save it as UTF-8")
    if b"\x00" in data:  # space is allocated before it is written; a power cut leaves it empty
        message = "only zero bytes follow; the file was not written completely"
        raise UnreadableError(
            *_place(data.rstrip(_BLANK).decode("utf-8-sig", "replace")), message, unfinished=True
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_utf8(data, error) from None
    if control := _CONTROL.search(text):
        line, column = _place(text[: control.start()])
        code = f"U+{ord(control.group()):04X}"
        raise UnreadableError(
            line, column, f"a control character ({code}) is in the text; remove it"
        )
    if not text.strip():
        raise UnreadableError(1, 1, "the file is empty", unfinished=True)
    return text


def _as_yaml(text: str) -> str:
    """Return JSON as YAML, which differs only in tabs between values, `\\/`, and characters that
    are escaped as surrogate pairs. Other text stays as it is."""
    if not text.lstrip().startswith("{"):
        return text
    return _JSON_PARTS.sub(_json_part, text)


_JSON_PARTS = re.compile(r'"(?:[^"\\\n]|\\.)*"|\t')
_HALVES = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")


def _json_part(part: re.Match[str]) -> str:
    if part.group() == "\t":
        return " "
    text = _HALVES.sub(lambda halves: str(json.loads(f'"{halves.group()}"')), part.group())
    return re.sub(r"\\(.)", lambda sign: "/" if sign[1] == "/" else sign.group(), text)


_ODD_SPACE = re.compile(
    r"^[ ]*+(?:-[ ]*+)?(?:\w[\w ]*+:[ ]*+)?([\u00a0\u2000-\u200b\u202f\u3000\ufeff])", re.MULTILINE
)
_BLOCK = re.compile(r"( *+)(?:- )?\w[\w ]*+: *+[|>][-+0-9]*+ *+(?:#.*)?")
_FIELD = re.compile(r" *+(?:- |[\w\"'][\w\"' ]*+:(?: |$))")


def written_wrong(text: str) -> Problem | None:
    """Return a common mistake that YAML's own messages don't explain, or None; only called if
    something else is wrong, too."""
    if odd := _ODD_SPACE.search(text):
        name = "no-break space" if odd[1] in "\u00a0\u202f" else "special space"
        message = f"a {name} (U+{ord(odd[1]):04X}) is here; YAML needs a plain space"
        return Problem(*_place(text[: odd.start(1)]), message)
    lines = _BREAK.split(text)
    for number, line in enumerate(lines[:-1], 1):
        if (block := _BLOCK.fullmatch(line)) is None:
            continue
        below = next((n for n in range(number, len(lines)) if lines[n].strip()), None)
        if below is None or _indent(lines[below]) > len(block[1]) or _FIELD.match(lines[below]):
            continue
        message = 'text below "|" or ">" must be indented: start each of its lines with two spaces'
        return Problem(below + 1, _indent(lines[below]) + 1, message)
    return None


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _not_utf8(data: bytes, error: UnicodeDecodeError) -> UnreadableError:
    # The codec counts from after a BOM; `object` is what it counted in.
    line, column = _place(error.object[: error.start].decode("utf-8", "replace"))
    if re.search(rb"[\x00-\x08\x0e-\x1a]", data):
        return UnreadableError(line, column, "this is not a text file")
    byte = error.object[error.start]
    meant = shown(bytes([byte]).decode("cp1252", "replace"))
    message = f"byte 0x{byte:02X} is not UTF-8 (in Latin-1 it is {meant}); save the file as UTF-8"
    if is_cut_off := _is_only_cut_off(data):
        message += "; it may also be cut off here"
    return UnreadableError(line, column, message, unfinished=is_cut_off)


def _is_only_cut_off(data: bytes) -> bool:
    """Return whether the only fault is an incomplete character at the end."""
    try:
        codecs.utf_8_decode(data, "strict", False)
    except UnicodeDecodeError:
        return False
    return True


def _place(before: str) -> tuple[int, int]:
    """Return line and column of what follows this text, both from 1."""
    lines = _BREAK.split(before)
    return len(lines), len(lines[-1].lstrip("\ufeff")) + 1


class _Composer:
    """Builds nodes from parser events and stops at the first limit that is exceeded."""

    def __init__(self, text: str) -> None:
        self.problems: list[Problem] = []
        self._text = text
        self._end = _place(text)
        self._nodes = 0
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=_LOADER)

    def document(self) -> Node:
        """Return the only document of the text. Raises UnreadableError, yaml.YAMLError."""
        next(self._events)  # the stream starts
        if isinstance(next(self._events), yaml.StreamEndEvent):
            message = "the file has only comments"
            raise UnreadableError(1, 1, message, unfinished=True)
        root = self._node(next(self._events), 1)
        next(self._events)  # the document ends
        extra = next(self._events)
        if isinstance(extra, yaml.DocumentStartEvent):
            line, column = _mark(extra.start_mark)
            raise UnreadableError(
                line, column, 'a second document starts with "---"; use two files'
            )
        return root

    def _node(self, event: yaml.Event, depth: int) -> Node:
        # An empty value at the end of a text without a line end has its mark in the next line.
        line, column = min(_mark(event.start_mark), self._end)
        self._nodes += 1
        if depth > MAX_DEPTH:
            raise UnreadableError(line, column, f"nested deeper than {MAX_DEPTH} levels")
        if self._nodes > MAX_NODES:
            raise UnreadableError(line, column, f"more than {MAX_NODES:,} values in one file")
        kinds = (kind for kind in ("anchor", "tag") if getattr(event, kind, None))
        if accident := "alias" if isinstance(event, yaml.AliasEvent) else next(kinds, ""):
            self.problems.append(_accident(accident, line, column))
        if isinstance(event, yaml.SequenceStartEvent):
            return Sequence(tuple(self._items(depth)), line, column)
        if isinstance(event, yaml.MappingStartEvent):
            return Mapping(tuple(self._entries(depth)), line, column)
        return self._scalar(event, line, column)

    def _items(self, depth: int) -> Iterator[Node]:
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            yield self._node(event, depth + 1)

    def _entries(self, depth: int) -> Iterator[tuple[Scalar, Node]]:
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._node(event, depth + 1)
            value = self._node(next(self._events), depth + 1)
            if isinstance(key, Scalar):
                yield key, value
            else:
                message = "a key must be plain text; put text with [ ] { } in quotes"
                self.problems.append(Problem(key.line, key.column, message))

    def _scalar(self, event: yaml.Event, line: int, column: int) -> Scalar:
        if not isinstance(event, yaml.ScalarEvent):
            return Scalar("", line, column)  # an alias, already refused
        if _HALF.search(event.value):  # libyaml refuses it, PyYAML's own parser does not
            raise UnreadableError(line, column, "this escape is not a complete character")
        if event.style not in (None, ""):
            return Scalar(event.value, line, column, quoted=True)
        cut = _COMMENT.match(self._text, event.end_mark.index if event.end_mark else 0)
        return Scalar(event.value, line, column, comment=cut.group(1) if cut else "")


def _accident(what: str, line: int, column: int) -> Problem:
    sign = {"alias": "*", "anchor": "&", "tag": "!"}[what]
    message = (
        f'"{sign}" starts a YAML {what}, which sdwatch does not support; put the text in quotes'
    )
    return Problem(line, column, message)


def _mark(mark: Any) -> tuple[int, int]:
    """Return line and column from 1; the two parsers of PyYAML have a Mark each."""
    return mark.line + 1, mark.column + 1


def _located(error: yaml.YAMLError, text: str) -> Problem:
    """Explain a syntax error; it is unfinished if it is at the very end of the text."""
    mark = getattr(error, "problem_mark", None)
    at_end = mark is not None and _mark(mark) >= _place(text.rstrip())
    return replace(_explain(error, text), unfinished=at_end)


def _explain(error: yaml.YAMLError, text: str) -> Problem:
    """Explain a syntax error to people who do not know YAML."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return Problem(1, 1, f"not YAML: {' '.join(str(error).split())}")
    line, column = _mark(mark)
    lines = _BREAK.split(text)
    here = lines[line - 1] if line <= len(lines) else ""
    if line > len(lines):  # the end of a text whose last line has no end
        line, column = len(lines), len(lines[-1]) + 1
    if "\t" in here[: len(here) - len(here.lstrip())]:
        message = f"line {line} starts with a tab; YAML needs spaces"
        return Problem(line, here.index("\t") + 1, message)
    context = getattr(error, "context_mark", None)
    problem = str(getattr(error, "problem", "")).split(",")[0]
    if "nesting depth" in problem:  # PyYAML from 6.0.4 on, which reads ahead of us
        return Problem(line, column, f"nested deeper than {MAX_DEPTH} levels")
    accident = re.search("alias|anchor|tag", f"{getattr(error, 'context', '')} {problem}")
    if accident and context is not None:
        return _accident(accident.group(), *_mark(context))
    if "end of stream" in problem and context is not None:
        return Problem(*_mark(context), "a quote is opened here and never closed")
    if here[: column - 1].rstrip().endswith(('"', "'")):
        message = "text follows a closing quote; put the other kind of quotes around all of it"
        return Problem(line, column, message)
    return Problem(line, column, _advice(problem, here[column - 1 : column], here))


def _advice(problem: str, sign: str, here: str) -> str:
    if "mapping values are not allowed" in problem:
        return (
            'a ": " is not allowed here. If it belongs to the text, put the whole text in quotes; '
            "if a field starts here, indent it like its neighbours, each with its own colon"
        )
    if "cannot start any token" in problem:
        return f"text cannot start with {shown(sign)}; put it in quotes"
    if re.search("escape|hexdecimal", problem) and re.search(r"[A-Za-z]:\\|\\(?![uUx])", here):
        return "in \"double quotes\" a backslash needs another one; use 'single quotes' for a path"
    if "Unicode character escape" in problem:
        return (
            "this escape is not a complete character; write the character itself (in Python "
            "json.dumps with ensure_ascii=False does)"
        )
    if "escape" in problem:
        return "in \"double quotes\" a backslash needs another one; use 'single quotes'"
    brackets = "found unexpected" in problem or problem.endswith("expected '")  # ',' or ']'
    if sign == "," or brackets or here.lstrip().startswith(("]", "}")):
        return "brackets do not match; text that starts with [ or { must be in quotes"
    return (
        f"not YAML ({problem}); check the indentation and the quotes here and in the line "
        "above. Put text that contains : # [ ] { } ' or \" in quotes as a whole"
    )
