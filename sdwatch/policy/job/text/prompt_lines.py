"""Read a list of prompts beside a job, as AUTOMATIC1111's script "Prompts from file or textbox"
does. Pure.

A line is a prompt, or, where it starts with `--`, options, as in `--prompt "a castle" --steps 20`;
their names are those of `prompt_tags` in scripts/prompts_from_file.py of v1.10.1. Words are split
as `shlex` splits them there, and a prompt of several words needs no quotes. Where AUTOMATIC1111
would make a prompt of a whole line that it cannot read, this is a mistake with its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sdwatch.policy.job.text.document import Scalar, UnreadableError
from sdwatch.policy.job.text.text_rows import LONGEST_LINE, Row, TextRows, next_line
from sdwatch.policy.naming import nearest

_OPTIONS = (
    "prompt", "negative_prompt", "seed", "subseed", "subseed_strength", "seed_resize_from_h",
    "seed_resize_from_w", "sampler_name", "batch_size", "n_iter", "steps", "cfg_scale", "width",
    "height", "restore_faces", "tiling", "styles", "do_not_save_samples", "do_not_save_grid",
)  # fmt: skip
_SEVERAL_WORDS = ("prompt", "negative_prompt")
_REFUSED = {
    "outpath_samples": "a job does not say where the WebUI saves",
    "outpath_grids": "a job does not say where the WebUI saves",
    "prompt_for_display": "sdwatch shows no prompt; remove it",
    "sampler_index": "use --sampler_name",
    "sd_model": "AUTOMATIC1111 does not read it; make a table (.csv) with a column checkpoint, and "
    "write override_settings: {sd_model_checkpoint: ${checkpoint}} into the job",
}
_WORD = re.compile(r"""[ \t]*+((?:[^\s"'\\]++|\\.|"(?:[^"\\]++|\\.)*+"|'[^']*+'|[^\S \t])++)""")
_PART = re.compile(r"""\\(.)|"((?:[^"\\]++|\\.)*+)"|'([^']*+)'""", re.DOTALL)
_OPTION_LATER = re.compile(rf"(?<=\s)--({'|'.join(_OPTIONS)})\s")
_MOST_ERRORS = 100


class PromptLines(TextRows):
    """A list of prompts that has been looked through. `names`: the fields that some line gives,
    with the place of the first; a line leaves those that it does not give to the job. `problems`:
    lines that cannot be read. `lines`: what is added to the number of each line. Raises
    UnreadableError."""

    def __init__(self, text: str, most: int, lines: int = 0) -> None:
        super().__init__(text, lines)
        names: dict[str, Scalar] = {}
        start, line = next_line(text, 0, 1)
        while start < len(text):
            if len(self) == most:
                message = f"a list has at most {most:,} prompts here: max_points allows no more"
                raise UnreadableError(lines + line, 1, message)
            try:
                for name, value in self._fields(start, line).items():
                    names.setdefault(name, Scalar(name, value.line, value.column))
            except UnreadableError as error:
                self.problems.append(error.problem)
                if len(self.problems) == _MOST_ERRORS:
                    break
            else:
                self.add(start, line)
            start, line = next_line(text, self._end_of(start), line)
        self.names = tuple(names.values())

    def read_row(self, start: int, line: int) -> Row:
        given = self._fields(start, line)
        left = Scalar("", self._offset + line, 1)
        return tuple(given.get(name.text, left) for name in self.names)

    def _fields(self, start: int, line: int) -> dict[str, Scalar]:
        end = self._end_of(start)
        if end - start > LONGEST_LINE:
            message = f"a line has at most {LONGEST_LINE:,} characters"
            raise UnreadableError(self._offset + line, 1, message)
        fields = fields_of(self.text[start:end], self._offset + line)
        return {name: Scalar(t, self._offset + line, c, quoted=True) for name, t, c in fields}

    def _end_of(self, start: int) -> int:
        """Return where the line ends that starts there."""
        end = self.text.find("\n", start)
        return len(self.text) if end < 0 else end


def fields_of(text: str, line: int = 1) -> list[tuple[str, str, int]]:
    """Return the fields that a line gives, each with its text and the column of that. Raises
    UnreadableError."""
    prompt = text.strip()
    if not prompt.startswith("--"):
        if later := _OPTION_LATER.search(text):
            message = (
                f'--{later[1]} follows a prompt; start the line with --prompt "..." if it is an '
                "option"
            )
            raise UnreadableError(line, later.start() + 1, message)
        return [("prompt", prompt, len(text) - len(text.lstrip()) + 1)]
    fields: dict[str, tuple[str, int]] = {}
    words = [*_words(text, line)]
    at = 0
    while at < len(words):
        name, column = words[at]
        at += 1
        name = _known(name, line, column)
        end = at
        while end < len(words) and not words[end][0].startswith("--"):
            end += 1
        if end == at:
            raise UnreadableError(line, column, f"--{name} has no value")
        if end > at + 1 and name not in _SEVERAL_WORDS:
            message = f'--{name} takes one value; put a text of several words into "quotes"'
            raise UnreadableError(line, words[at + 1][1], message)
        fields[name] = " ".join(word for word, _ in words[at:end]), words[at][1]
        at = end
    return [(name, text, column) for name, (text, column) in fields.items()]


def _known(word: str, line: int, column: int) -> str:
    name = word.removeprefix("--")
    if name in _REFUSED:
        raise UnreadableError(line, column, f"--{name}: {_REFUSED[name]}")
    if name not in _OPTIONS:
        shown = name if name.isidentifier() and len(name) <= 40 else "of another kind"
        message = f"unknown option --{shown}{nearest(name[:40], _OPTIONS)}"
        raise UnreadableError(line, column, message)
    return name


def _words(text: str, line: int) -> Iterator[tuple[str, int]]:
    at, end = 0, len(text.rstrip(" \t"))
    while at < end:
        found = _WORD.match(text, at)
        if found is None:
            at += len(text[at:]) - len(text[at:].lstrip(" \t"))
            message = "a quote or a backslash is opened here and never closed"
            raise UnreadableError(line, at + 1, message)
        after = text[found.end() : found.end() + 1]
        if after and after not in " \t":
            message = "a quote is opened here and never closed"
            if after == "\\":
                message = "nothing follows this backslash"
            raise UnreadableError(line, found.end() + 1, message)
        yield _PART.sub(_unquoted, found[1]), found.start(1) + 1
        at = found.end()


def _unquoted(part: re.Match[str]) -> str:
    if part[1] is not None:
        return part[1]
    if part[2] is not None:
        return re.sub(r'\\(["\\])', r"\1", part[2])
    return part[3]
