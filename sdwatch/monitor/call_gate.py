"""The gate of all calls, and why none may start on any lane: a person's hold, a share that is gone,
a disk that is full."""

from __future__ import annotations

from collections.abc import Callable

from sdwatch.policy.failure.hold_reason import HoldCode, HoldKey, NoCall
from sdwatch.spool.folders import Spool
from sdwatch.system import disk


class CallGate:
    """The gate of all calls. `min_free`: bytes that must be free on the spool's disk.
    `disk_refuses`: returns why a run waits for the disk, or ''."""

    def __init__(self, spool: Spool, min_free: int, disk_refuses: Callable[[], str]) -> None:
        self._spool = spool
        self._min_free = min_free
        self._disk_refuses = disk_refuses
        self.ordered: Callable[[], NoCall | None] = lambda: None
        """Returns a hold that a person gave to this machine from another one, or None."""

    def why_no_call(self) -> NoCall | None:
        """Return why no new call may start now, or None. On a share this may take a while. Each
        call checks just before it starts."""
        if self._spool.is_gone:
            return self.share_gone()
        try:
            if (held := self._held()) is not None:
                return held
            free = disk.free_bytes(self._spool.root)
        except OSError as error:
            key = HoldKey(HoldCode.SPOOL_UNREADABLE, (error.errno,))
            return NoCall(f"the spool cannot be read: {disk.in_words(error)}", key)
        if free < self._min_free:
            least = self._min_free // 10**6
            where = f"the spool's disk ({self._spool.root})"
            text = f"{free // 10**6} MB free on {where}, less than min_free ({least} MB)"
            return NoCall(text, HoldKey(HoldCode.NO_ROOM))
        if not (refused := self._disk_refuses()):
            return None
        text = f"the spool's disk refuses to write: {refused}"
        return NoCall(text, HoldKey(HoldCode.DISK_REFUSES))

    def persons_hold(self) -> NoCall | None:
        """Return a person's hold, on which only health checks are allowed, or None."""
        try:
            return self._held()
        except OSError:
            return None  # a share that is gone does not show whether there is a hold

    def _held(self) -> NoCall | None:
        """Return a person's hold. Raises OSError."""
        if (hold := self._spool.hold_file()) is None:
            return self.ordered()
        frees = self._spool.hold_frees(hold)
        too = ", which also frees the GPU" if frees else ""
        text = f"paused by the file {hold.name} in the spool{too}"
        return NoCall(text, HoldKey(HoldCode.PERSON, (frees,)), frees)

    def share_gone(self) -> NoCall:
        """Return that the spool's share is gone."""
        text = (
            f"share gone: {self._spool.root} is empty; sdwatch resumes when it is back "
            "(to start a new spool there, make a folder `inbox`)"
        )
        return NoCall(text, HoldKey(HoldCode.SHARE_GONE))
