"""The names at the broker, and the times of the protocol. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

RUNS = "SDWATCH_RUNS"
"""The stream of all runs' logs: one subject a run."""

WORK = "SDWATCH_WORK"
"""The stream of messages for boxes: one subject for each box and run, at most one message on it."""

FILES = "SDWATCH_FILES"
"""The stream of files and lines, see cluster/objects."""

OBJECTS = "sdwatch.file"
"""What its subjects start with."""

BOXES = "sdwatch_boxes"
"""The key-value bucket with what each box has, under its name."""

LISTS = "sdwatch_lists"
"""The key-value bucket with the lists of each lane of a box, under BOX.LANE."""

ORDERS = "sdwatch_orders"
"""The key-value bucket with what people want of a box, under its name."""


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds. `lease`: how long the broker keeps a message for a box that does not renew it;
    `renew`: how often the box does; `beat`: how often it shows what it has; `silent`: after how
    long without that the dispatcher asks the broker whether the box's leases are over; `closed`:
    how long the broker keeps the last entry of a run that was published (a box that was away for
    longer shows its copy, and the run is closed again); `stuck`: for how long a
    message may lie there while its box answers and has a place; `request`: for one answer."""

    lease: float = 120.0
    renew: float = 15.0
    beat: float = 5.0
    silent: float = 30.0
    closed: float = 24 * 3600.0
    stuck: float = 60.0
    request: float = 5.0


def token_of(text: str) -> str:
    """Return a text as one part of a subject, which has no spaces, dots or wildcards in it. Two
    texts never give the same."""
    return "".join(
        sign if sign.isascii() and (sign.isalnum() or sign in "-_") else f"={byte:02X}"
        for sign in text
        for byte in sign.encode("utf-8", "surrogatepass")
    )


def ask_subject(box: str) -> str:
    """Return the subject on which a box is asked to read its lists again."""
    return f"sdwatch.ask.{box}"


def look_subject(box: str) -> str:
    """Return the subject on which a box hears that a log of one of its runs has news."""
    return f"sdwatch.look.{box}"


def key_subject(bucket: str, key: str) -> str:
    """Return the subject of a key of a bucket; `>` for all."""
    return f"$KV.{bucket}.{key}"


def key_in(subject: str) -> str:
    """Return the key that a subject of `key_subject` has; one of more parts is not read so."""
    return subject.rpartition(".")[2]


def lists_key(box: str, lane: str) -> str:
    """Return the key of the lists of a lane of a box."""
    return f"{box}.{token_of(lane)}"


def text_of(token: str) -> str:
    """Return the text that `token_of` made this from; any text for a foreign token."""
    coded = token.replace("%", "").replace("=", "%")
    return unquote(coded, errors="surrogatepass")


def run_subject(run: str) -> str:
    """Return the subject of a run's log."""
    return f"sdwatch.run.{token_of(run)}"


def work_subject(box: str, run: str) -> str:
    """Return the subject of the message that hands a run to a box; `*` for any run."""
    return f"sdwatch.work.{box}.{run if run == '*' else token_of(run)}"


def consumer_of(box: str) -> str:
    """Return the name of the consumer that holds the leases of a box."""
    return f"box-{box}"


def object_subject(run: str, sha256: str, part: int | str) -> str:
    """Return the subject of a part of an object; `*` for all parts. Runs share none, so that each
    can be removed with its run."""
    return f"{OBJECTS}.{token_of(run)}.{sha256}.{part}"


def objects_of(run: str) -> str:
    """Return the subjects of all objects of a run."""
    return f"{OBJECTS}.{token_of(run)}.>"
