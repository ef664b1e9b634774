"""What `sdwatch doctor` finds: values, and the threads that look for them within a limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum, auto

from sdwatch.errors import SdwatchError
from sdwatch.system import disk


class Weight(IntEnum):
    """How much a finding matters. NOTE: nothing is wrong, or it could not be checked now; WARNING:
    jobs run, but look at it; PROBLEM: jobs do not run."""

    OK = auto()
    NOTE = auto()
    WARNING = auto()
    PROBLEM = auto()


class Area(StrEnum):
    """What is checked."""

    CONFIG = "config"
    MONITOR = "monitor"
    WEBUI = "webui"
    PORT = "port"
    PICTURE = "picture"
    FOLDERS = "folders"
    SHARE = "share"
    CLOCK = "clock"
    DISK = "disk"
    GPU = "gpu"
    SERVICE = "service"
    NOTIFICATIONS = "notifications"


@dataclass(frozen=True)
class DoctorFinding:
    """One finding, in words, and what to do about it. `area`, `about` (the WebUI's name, or ''):
    those of its examination, unless it says others."""

    weight: Weight
    message: str
    advice: str = ""
    area: Area | None = None
    about: str = ""


@dataclass(frozen=True)
class Examination:
    """A function that yields findings about an area, and the seconds that it may take."""

    area: Area
    look: Callable[[], Iterable[DoctorFinding]]
    limit: float = 10.0
    about: str = ""


@dataclass(eq=False)
class _Look:
    examination: Examination
    found: list[DoctorFinding] = field(default_factory=list)

    def __post_init__(self) -> None:
        # A daemon: what hangs in the system, on a share that is gone, must not keep the command.
        name = f"doctor {self.examination.area}"
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            for finding in self.examination.look():
                self._add(finding)
        except (SdwatchError, OSError, ValueError) as error:
            why = f"it could not be checked: {disk.in_words(error)}"
            self._add(DoctorFinding(Weight.WARNING, why))

    def _add(self, finding: DoctorFinding) -> None:
        area = finding.area or self.examination.area
        self.found.append(replace(finding, area=area, about=self.examination.about))

    def result(self, began: float) -> list[DoctorFinding]:
        """Return what it found; a warning if it takes too long."""
        one = self.examination
        self.thread.join(max(0.0, began + one.limit - time.monotonic()))
        found = [*self.found]
        if self.thread.is_alive():
            message = f"no answer within {one.limit:g} s, so this was not checked to its end"
            advice = _IF_SLOW.get(one.area, "try again; if it stays, look at this machine's load")
            found.append(DoctorFinding(Weight.WARNING, message, advice, one.area, one.about))
        return found


_SHARE_HANGS = "if the spool is on a share, its server may be gone: open the folder by hand"
_IF_SLOW = {
    **dict.fromkeys((Area.FOLDERS, Area.SHARE, Area.CLOCK, Area.DISK, Area.MONITOR), _SHARE_HANGS),
    Area.PORT: "somebody accepts connections there and says nothing: restart the WebUI",
    Area.PICTURE: "the WebUI loads a model, or hangs: look at its own output, and try again",
}


def examined(examinations: Sequence[Examination]) -> Iterator[DoctorFinding]:
    """Make all examinations at the same time; yield what each found, in their order."""
    began = time.monotonic()
    looks = [_Look(examination) for examination in examinations]
    for look in looks:
        yield from look.result(began)


def worst_of(findings: Iterable[DoctorFinding]) -> Weight:
    """Return the weight of the worst; OK if there is none."""
    return max((finding.weight for finding in findings), default=Weight.OK)
