"""Replace names of the inbox by pseudonyms: `lieselotte/wedding.yaml` becomes
`folder-1/job-1.yaml` everywhere. Pure.

A folder is named after a person, a file after its prompt. The same name has the same pseudonym
everywhere in a bundle, so that a reader can still follow it.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from sdwatch.policy.job.run_names import RUN_ID
from sdwatch.policy.privacy.common_words import COMMON, tells_nothing

_WORD = re.compile(r"[^\W_]+")


def without_slugs(text: str) -> str:
    """`text` with `job` in place of the file name in each run's id and each image's name."""
    return RUN_ID.sub(r"\1job\2", text)


class Pseudonyms:
    """Gives each name one, and remembers it."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        """What is to be replaced, and by what."""
        self._given: dict[tuple[str, str], str] = {}
        self._counts: dict[str, int] = {}

    def add_source(self, source: str) -> None:
        """A job's path in the inbox."""
        *folders, job = PurePosixPath(source).parts or ("",)
        told = [*(self._add("folder", name) for name in folders), self._add("job", job)]
        if "/".join(told) != source:
            self.names.setdefault(source, "/".join(told))

    def add_file(self, name: str) -> None:
        """A file that lies beside a job, or a path to one."""
        for part in PurePosixPath(name).parts:
            self._add("file", part)

    def _add(self, kind: str, name: str) -> str:
        stem, ending = _split(name)
        if all(word.casefold() in COMMON or word.isdigit() for word in _WORD.findall(stem)):
            return name
        pseudonym = self._pseudonym(kind, stem)
        if not all(map(tells_nothing, _WORD.findall(stem))):
            self.names.setdefault(stem, pseudonym)
        return f"{pseudonym}{ending}"

    def _pseudonym(self, kind: str, stem: str) -> str:
        key = (kind, stem)
        if key not in self._given:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            self._given[key] = f"{kind}-{self._counts[kind]}"
        return self._given[key]


def _split(name: str) -> tuple[str, str]:
    """Stem and ending; a dot within a name of many words is none of an ending."""
    stem, dot, ending = name.rpartition(".")
    is_ending = stem and re.fullmatch(r"[A-Za-z0-9]{1,5}", ending)
    return (stem, dot + ending) if is_ending else (name, "")
