"""The runs in working/ for the page: what their journals say so far, read as they grow."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from pathlib import Path

from sdwatch.policy.job.calls.estimate import CallTimes, TimedCall
from sdwatch.policy.page.night import Loss, losses_in
from sdwatch.spool.call_history import MOST_CALLS, timed_calls
from sdwatch.spool.journal import record_in
from sdwatch.spool.run import JOURNAL
from sdwatch.system.line_follower import LineFollower


class _Story:
    """What the journal of one run says so far. `source`: the job's path in the inbox; `finished`:
    how many of its calls are."""

    def __init__(self, folder: Path) -> None:
        self._lines = LineFollower(folder / JOURNAL)
        self.source = ""
        self.finished = 0
        self.losses: tuple[Loss, ...] = ()
        self.calls: deque[TimedCall] = deque(maxlen=MOST_CALLS)  # the last ones, newest first

    def follow(self) -> None:
        records = [record for line in self._lines.poll() if (record := record_in(line))]
        for record in records:
            if record["event"] == "claimed":
                self.source = str(record.get("source", ""))
        finished = [record for record in records if record["event"] == "call_finished"]
        self.finished += len(finished)
        self.calls.extendleft(reversed(timed_calls(finished)))
        self.losses = losses_in(records, self.losses)


class WorkingRuns:
    """The runs in the folders that `follow` names. For one thread. What cannot be read is left
    out."""

    def __init__(self) -> None:
        self._stories: dict[Path, _Story] = {}

    def follow(self, folders: Iterable[Path]) -> None:
        """Read what is new in the journals of these runs, and forget all others."""
        self._stories = {each: self._stories.get(each) or _Story(each) for each in folders}
        for story in self._stories.values():
            story.follow()

    def source_of(self, folder: Path) -> str:
        """Return where in the inbox a run came from; '' if unknown."""
        story = self._stories.get(folder)
        return story.source if story else ""

    @property
    def finished(self) -> dict[str, int]:
        """Return how many calls of each run are finished, by run_id."""
        return {folder.name: story.finished for folder, story in self._stories.items()}

    @property
    def losses(self) -> list[Loss]:
        """Return the crashes during their calls."""
        return [loss for story in self._stories.values() for loss in story.losses]

    @property
    def calls(self) -> CallTimes:
        """Return what their last calls took, those of the newest run first."""
        newest = sorted(self._stories, key=lambda folder: folder.name, reverse=True)
        return CallTimes(call for folder in newest for call in self._stories[folder].calls)
