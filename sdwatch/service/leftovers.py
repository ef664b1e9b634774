"""What a service leaves running on purpose, and an uninstallation ends."""

from __future__ import annotations

from pathlib import Path

from sdwatch.errors import SdwatchError, ServiceError
from sdwatch.system.clock import SystemClock
from sdwatch.system.state_folder import StateFolder
from sdwatch.webui.process import process_identity, process_tree

_GRACE_S = 10.0


def end_leftovers(state: Path) -> None:
    """End the WebUIs that the last monitor on this state folder left running: `leave_running` lets
    them, and so does a monitor that was killed. Raises ServiceError."""
    if not state.is_dir():
        return
    holder = StateFolder(state)
    try:
        holder.hold()
    except SdwatchError as error:
        raise ServiceError(f"its WebUIs are left alone: {error}") from error
    try:
        for folder in sorted(state.glob("webui-*")):
            _end(folder)
    finally:
        holder.release()


def _end(folder: Path) -> None:
    if (identity := process_identity.load(folder)) is None:
        return
    logs = process_identity.newest_logs(folder)
    left = process_tree.stop_whole(
        lambda: process_identity.processes(identity, logs),
        group=identity.pid or None,
        job_name=identity.job_name,
        grace=_GRACE_S,
        clock=SystemClock(),
    )
    if left:
        pids = ", ".join(str(process.pid) for process in left)
        raise ServiceError(f"the WebUI of {folder} cannot be ended: process {pids} still runs")
