"""Find the images that a job names in its folder, or say why one cannot be used. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping
from fnmatch import translate
from pathlib import PurePosixPath
from typing import TypeAlias

from sdwatch.errors import SpoolError, UnfinishedError
from sdwatch.policy.job.files.near_miss import PICTURE_EXTENSIONS
from sdwatch.policy.job.stage.confinement import DEVICE
from sdwatch.policy.job.text.document import MistakeError, Scalar
from sdwatch.policy.naming import nearest, shown

Size: TypeAlias = tuple[int, int]
"""Width and height in pixels."""
_URL = re.compile(r"(?i)(data:|file=|[a-z][a-z0-9+.-]*://)")


class JobImages:
    """The images beside one job file.

    `names`: relative to the job folder, with `/`; None for a job that is a single file. `look`
    returns the size of an image, or raises SpoolError; each image is looked at once.
    """

    def __init__(self, names: frozenset[str] | None, look: Callable[[str], Size | None]) -> None:
        self.names = names
        self._look = look
        self._looked_at: dict[str, Size | SpoolError | None] = {}

    @property
    def sizes(self) -> Mapping[str, Size]:
        """Return the sizes of all images that were looked at, by name."""
        return {name: size for name, size in self._looked_at.items() if isinstance(size, tuple)}

    def actual_name(self, name: str) -> str:
        """Return the name of the file that is meant, or `name` where there is none."""
        return on_disk(name, self.names or ())

    def contains(self, name: str) -> bool:
        """Return whether a text names a file of the job."""
        return self.actual_name(name) in (self.names or ())

    def is_unfinished(self, name: str) -> bool:
        """Return whether this image was looked at and is still being written, or cut off."""
        return isinstance(self._looked_at.get(self.actual_name(name)), UnfinishedError)

    def is_there(self, name: str) -> bool:
        """Return whether it is there already, even where others are awaited (see AnyName)."""
        there = frozenset(iter(self.names or ()))
        return on_disk(name, there) in there

    def refusal(self, name: str) -> str:
        """Return why this cannot be the name of an image, or ''."""
        if _URL.match(name):
            return "name a file in the job folder, not a URL or image data"
        if "\\" in name:
            return _not_with_backslash(name)
        parts = PurePosixPath(name).parts
        drive = parts and len(parts[0]) == 2 and parts[0].endswith(":")
        if not parts or drive or name.startswith(("/", "~")) or ".." in parts:
            return f"{shown(name)} is outside the job folder; name an image such as castle.png"
        if odd := next(filter(None, map(_odd, parts)), ""):
            return f"{shown(name)} {odd}"
        if self.names is None:
            return (
                f"a single job file cannot use the image {shown(name)}; put the file as job.yaml "
                "into a folder together with its images"
            )
        if (real := on_disk(name, self.names)) in self.names:
            why = self._why_unusable(real)
            return f"{shown(name)} {why}" if why else ""
        if several := several_on_disk(name, self.names):
            names = " and ".join(map(shown, several))
            return f"{shown(name)} is ambiguous; it matches {names}: write the exact name"
        if isinstance(self.names, FolderNames) and self.names.has_link(name):
            return f"{shown(name)} {NO_LINK}"
        return f"{shown(name)} is not in the job folder{_near_image(name, self.names)}"

    def _why_unusable(self, image: str) -> str:
        """Return why an image that is there cannot be used, or ''. Each is looked at once."""
        if image not in self._looked_at:
            try:
                self._looked_at[image] = self._look(image)
            except SpoolError as error:
                self._looked_at[image] = error
        found = self._looked_at[image]
        return str(found) if isinstance(found, SpoolError) else ""


def images_named(node: Scalar, names: frozenset[str] | None) -> list[str]:
    """Return the images of the job folder that fit a pattern. Raises MistakeError for none."""
    if names is None:
        message = "a single job file has no images; put it as job.yaml into a folder with them"
        raise MistakeError(node, message)
    if "\\" in node.text:
        raise MistakeError(node, _not_with_backslash(node.text))
    if not (fit := matching(node.text, names)):
        near = _near_image(node.text, names)
        message = f"no image in the job folder fits {shown(node.text)}{near}"
        raise MistakeError(node, message, unfinished=True)
    return fit


def _not_with_backslash(name: str) -> str:
    """Return what to do about the name of a file as Windows shows it."""
    return f'write {shown(name)} with "/" between folder and file'


def _near_image(name: str, names: Iterable[str]) -> str:
    """Return `; did you mean ...?` with an image of the job folder, for one that is not there."""
    images = images_in(names)
    return nearest(name, images) if images else "; there is no image in it"


def images_in(names: Iterable[str]) -> list[str]:
    """Return those names that are of images, sorted."""
    return sorted(filter(_is_picture, names))


def _is_picture(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in PICTURE_EXTENSIONS


def is_pattern(text: str) -> bool:
    """Return whether a text stands for all images that fit it, as `poses/*.png`."""
    return any(sign in text for sign in "*?[")


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """Return the images that fit a pattern, in natural order: 2.png comes before 10.png. A `*`
    stands for nothing above or below a folder; `a[1].png` fits itself, too."""
    wanted = _composed(PurePosixPath(pattern).as_posix()).lower()
    depth = wanted.count("/")
    fits = re.compile(translate(wanted)).match  # fnmatchcase keeps the last 32,768 patterns
    fit = (
        name
        for name in names
        if name.count("/") == depth
        and _is_picture(name)
        and ((low := _composed(name).lower()) == wanted or fits(low))
    )
    return sorted(fit, key=lambda name: [_natural(part) for part in _DIGITS.split(name)])


def _natural(part: str) -> tuple[int, int, str]:
    return (0, int(part), "") if part.isdigit() else (1, 0, part)


_DIGITS = re.compile(r"([0-9]{1,18})")


def on_disk(name: str, images: Collection[str]) -> str:
    """Return the name of the image that is meant. `./a.png` is `a.png`. Composed and decomposed
    accents are equal (macOS decomposes them), and so are capital and small letters (as on Windows
    and macOS) if only one file fits."""
    clean = str(PurePosixPath(name))
    if clean in images:
        return clean
    for form in (_composed, folded):
        if len(fit := _alike(clean, images, form)) == 1:
            return fit[0]
    return clean


def several_on_disk(name: str, images: Collection[str]) -> list[str]:
    """Return the images that an ambiguous name may mean: they differ only in capital and small
    letters or the form of an accent, and none has exactly this name."""
    real = on_disk(name, images)
    fit = [] if real in images else _alike(real, images, folded)
    return sorted(fit) if len(fit) > 1 else []


def _alike(name: str, images: Collection[str], form: Callable[[str], str]) -> list[str]:
    wanted = form(name)
    return [image for image in images if form(image) == wanted]


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def folded(name: str) -> str:
    """Return a name in the form in which Windows and macOS compare it."""
    return _composed(_composed(name).casefold())


def _odd(part: str) -> str:
    """Return why Windows would read a name differently, or ''. Such names are refused on every
    system, so that a job works on all systems or on none."""
    if device := DEVICE.fullmatch(part):
        return f"is a device on Windows ({device[1].upper()}), not a file; give it another name"
    if ":" in part:
        return 'contains a ":", which Windows reads as another stream of a file'
    if part.endswith((".", " ")):
        return "ends in a dot or a space, which Windows drops; give it another name"
    return "contains control characters" if any(sign < " " for sign in part) else ""


def is_missing(name: str, there: frozenset[str]) -> bool:
    """Return whether an image may still come. If several may be meant, none is waited for."""
    return on_disk(name, there) not in there and not several_on_disk(name, there)


NO_LINK = "is a link, which is never followed; put the file itself into the job folder"


class FolderNames(frozenset[str]):
    """The names of the files in a job folder, without the links beside them."""

    _links: frozenset[str]

    def __new__(cls, files: Iterable[str], links: Iterable[str]) -> FolderNames:
        """Make the set."""
        made = super().__new__(cls, files)
        made._links = frozenset(links)
        return made

    def has_link(self, name: str) -> bool:
        """Return whether a name is that of a link."""
        return on_disk(name, self._links) in self._links


class AnyName(frozenset[str]):
    """The names of the images that are there, and a set that pretends that every other one is, to
    read which ones a job names."""

    def __contains__(self, name: object) -> bool:
        return True
