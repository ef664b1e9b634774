"""Detect names in the inbox that are not a job's but look as if one was meant. Pure."""

from __future__ import annotations

import difflib
import re
from pathlib import PurePath

JOB_EXTENSIONS = (".yaml", ".yml", ".json")

# What sync tools call the copy that lost: Syncthing; Dropbox and Nextcloud; Seafile; ownCloud;
# Synology Drive. `war conflict.yaml` is a job.
_CONFLICT = re.compile(
    r"\.sync-conflict-\d{8}-\d{6}"
    r"|\b(?:conflicted copy|case conflict|sfconflict)\b[^()]*\)"
    r"|_conflict-\d{8}-\d{6}"
    r"|_\w{3}-\d{2}-\d{6}-\d{4}_conflict",
    re.IGNORECASE,
)
_INSIDE = re.compile(r"\.(?:ya?ml|json)(?![a-z])(?=.)", re.IGNORECASE)
PICTURE_EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp")

DEFAULTS = "_defaults.yaml"
"""A file of fields for all jobs of its folder, and of the folders in it; never a job itself."""

_NOT_MEANT = ("readme", "license", "licence", "changelog")
_CONTROL = ("hold.txt", "cancel.txt")


def why_not_a_job(name: str) -> str:
    """Return what is wrong with a file's name, and what to call it, if it looks as if a job was
    meant; '' for a job's name and for what is clearly none."""
    low = name.lower()
    if low.endswith(JOB_EXTENSIONS) and PurePath(low).stem == PurePath(DEFAULTS).stem:
        return "" if name == DEFAULTS else f"only a file called {DEFAULTS} is read; rename it"
    # The other one is run, and twice the same job is seldom meant.
    if _CONFLICT.search(name) and low.endswith(JOB_EXTENSIONS):
        return "a sync tool's conflict copy is not run; rename it if it should be"
    if low.endswith(JOB_EXTENSIONS):
        return ""
    stem, ending = PurePath(name).stem, PurePath(low).suffix
    if low in _CONTROL:
        return f"{low} does nothing in the inbox; docs/cli.md says where it belongs"
    if found := _INSIDE.search(name):
        right = name[: found.end()]
        return f"a job's name ends in .yaml, .yml or .json; rename it to {right}"
    if low.startswith(_NOT_MEANT):
        return ""
    if ending == ".txt" or low == "job":
        return f"a job's name ends in .yaml, .yml or .json; rename it to {stem}.yaml if it is one"
    if near := difflib.get_close_matches(ending, JOB_EXTENSIONS, 1, 0.74):
        return f"a job's name ends in .yaml, .yml or .json; rename it to {stem}{near[0]}"
    return ""
