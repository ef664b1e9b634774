"""Find failed extensions in a WebUI's log: it generates without them, with a 200. Pure.

A script that raises is skipped (modules/scripts.py, script_callbacks.py and errors.py of Forge
dfdcbab6, which AUTOMATIC1111 and Forge Neo share; controlnet#1368, #2355, forge#896):

    *** Error running HOOK: PATH                          older ones without stars
    *** Error executing callback HOOK for PATH
    *** Error loading script: FILE                        and the others of a start: see _FORMS
    *** Error calling: PATH/HOOK

SD.Next (modules/scripts_manager.py and script_callbacks.py; adetailer#408, sdnext#326):

    ERROR    Running script HOOK: PATH: CLASS             HOOK is in words; older ones: no level
    ERROR    Executing callback: PATH HOOK: CLASS
    ERROR    Load script: FILE: CLASS                     newer ones say CRITICAL

A traceback follows each. Some extensions catch their exceptions and say it themselves:

    [-] ADetailer: Invalid arguments passed to ADetailer.               (adetailer#339)
    2023-11-09 20:36:00,279 - ControlNet - ERROR - TEXT                 (their loggers' form; no
                                                                ERROR was recorded)
    2023-11-09 20:36:00,279 - ControlNet - WARNING - No ControlNetUnit detected (mov2mov#116)
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sdwatch.policy.failure.error_lines import error_blocks
from sdwatch.policy.failure.tracebacks import names_exception, tracebacks
from sdwatch.policy.privacy.sanitise import strings

_WINDOW = 200
"""Lines below such a line in which its traceback ends; ADetailer's is a page of tables."""

_LONGEST_SHOWN = 300
"""A longer line is not shown: nobody would recognize half a prompt as one."""

_LONGEST_NAME = 80
_SIGNS = ("rror ", "unning ", "alling ", "ERROR", "CRITICAL", "[-] ", "ControlNet - ")
"""Every line about a failed extension has one of these; they are cheap to find in a large log."""

_HEAD = re.compile(
    r"\*\*\* |[\d:.,| -]{8,40}(?:sd \| )?(?:ERROR|CRITICAL)(?: \| (?:\w{1,40} \| )?| {1,8})"
)
"""What marks an error: AUTOMATIC1111's stars, SD.Next's time and level, or those of sdnext.log."""

_FORMS = tuple(
    re.compile(form)
    for form in (
        r"Error running (?P<hook>\w{1,60})(?:\(\) for |: )",
        r"Error executing callback (?P<hook>\w{1,60}) for ",
        r"(?:Error r|R)unning (?:script )?(?P<hook>[a-z][a-z ]{1,60}): ",
        r"Executing callback: ",
        r"(?P<load>Error loading|Load) script: ",
        r"(?P<start>Error calling:|Calling script:|calling) ",
        r"(?P<load>Script initialize|Error # failed to initialize Script)[: ]",
    )
)
"""What stands before the script's path; `load` and `start`: of the WebUI's start."""

_BEHIND = re.compile(r"(?:[ /](?P<hook>\w{1,60}))?(?:: (?P<kind>[\w.]{1,80}))?")
_OF_THE_START = re.compile(
    r"(?:on_)?(?:before|after)_component(?:_callback)?|(?:before|after)_ui(?:_callback)?"
    r"|ui_\w{1,40}|app_\w{1,40}|model_loaded_callback|script_unloaded\w{0,9}|preload"
    r"|list_\w{1,40}|callbacks_on_reload|infotext_pasted\w{0,9}|image_save_btn_callback|title|show"
)
"""Hooks that are not part of a generation; with --nowebui some run in the first one anyway."""

_LOGGED = re.compile(
    r"[\d:., -]{8,30}- (?P<name>(?!root\b)\w{2,40}) - "
    r"(?:(?:ERROR|CRITICAL) - |WARNING - No ControlNetUnit detected)"
)
_DASHED = re.compile(r"\[-\] (?P<name>\w{2,40}): ")
_BAD_NEWS = re.compile(r"(?i)error|fail|invalid|not found|disabled|exception|unable|unsupported")
_IN_EXTENSIONS = re.compile(
    r"(?:^|[/\\\s\"])extensions(?:-builtin)?[/\\](?P<name>[^/\\\"]{1,80})[/\\]"
)


@dataclass(frozen=True)
class BrokenExtension:
    """An extension that failed. `name`: of its folder, else of its file, or as its logger is
    called. `hook`: where it raised, '' where it only says that something is wrong. `exception`: the
    class, '' if not named. `lines`: what the WebUI wrote, which may echo a prompt. `of_start`: it
    failed when the WebUI loaded it, and not in a generation; `loaded`: and runs all the same."""

    name: str
    hook: str = ""
    exception: str = ""
    lines: tuple[str, ...] = ()
    of_start: bool = False
    loaded: bool = True

    @property
    def words(self) -> str:
        """Return the failure for people, without anything that may be part of a prompt."""
        who = f'the extension "{self.name}"'
        what = self.exception or "an exception"
        if not self.loaded:
            why = f" ({self.exception})" if self.exception else ""
            return f"{who} was not loaded{why}: the WebUI runs without it"
        if self.of_start:
            return f"{who} raised {what} in {self.hook} while the WebUI started"
        if self.hook:
            return f"{who} raised {what} in {self.hook}: the WebUI may have generated without it"
        return f"{who} reported an error: the WebUI may have generated without it"


def broken_extensions(log: Sequence[str], payload: Mapping[str, Any]) -> list[BrokenExtension]:
    """Return each extension that lines of a log say failed, once for each of its hooks. Lines that
    the payload has in a text of its own are a prompt, which some extension printed."""
    found: dict[tuple[str, str], BrokenExtension] = {}
    for at, line in enumerate(log):
        if not any(sign in line for sign in _SIGNS):
            continue
        broken = _failure_in(line, log[at + 1] if at + 1 < len(log) else "")
        if broken is None or any(line.strip() in text for _, text in strings(payload)):
            continue
        broken = _with_traceback(broken, log[at : at + _WINDOW])
        found.setdefault((broken.name, broken.hook), broken)
    return list(found.values())


def _failure_in(line: str, below: str) -> BrokenExtension | None:
    """Return the failure that a line reports; `below` is the next line, on which old SD.Next has
    the path."""
    if said := _LOGGED.match(line):
        return BrokenExtension(said["name"])
    text = line.strip()
    if said := _DASHED.match(text):
        return BrokenExtension(said["name"]) if _BAD_NEWS.search(text, said.end()) else None
    head = _HEAD.match(text)
    text = text[head.end() :].lstrip() if head else text
    if not head and text.endswith(":"):
        text = f"{text} {below.strip()}"
    for form in _FORMS:
        if found := form.match(text):
            return _of_script(found, text[found.end() :].lstrip(), is_error=head is not None)
    return None


def _of_script(found: re.Match[str], rest: str, *, is_error: bool) -> BrokenExtension | None:
    """Return the extension whose script a line names. `rest`: from the script's path on.
    `is_error`: the line is marked as one."""
    end = rest.find(".py") + len(".py")
    if end < len(".py"):
        return None
    path, behind = rest[:end], _BEHIND.match(rest, end)
    assert behind is not None  # it may be empty
    kind = behind["kind"] or ""
    if not (is_error or kind or found.group().startswith("Error")):
        return None  # what SD.Next says of a script that runs
    groups = found.groupdict()
    hook = groups.get("hook") or behind["hook"] or "loading"
    hook = hook.replace("before postprocess", "postprocess").replace(" ", "_")
    is_load = bool(groups.get("load"))
    of_start = is_load or bool(groups.get("start")) or _OF_THE_START.fullmatch(hook) is not None
    return BrokenExtension(
        _name(path), hook, kind.rpartition(".")[2], of_start=of_start, loaded=not is_load
    )


def _name(path: str) -> str:
    found = _IN_EXTENSIONS.search(path)
    return (found["name"] if found else re.split(r"[/\\]", path)[-1])[-_LONGEST_NAME:]


def _with_traceback(broken: BrokenExtension, window: Sequence[str]) -> BrokenExtension:
    """Add what the traceback below its line says: the class, where it was raised, the text."""
    lines = [window[0].strip()]
    block = next(iter(error_blocks(window)), None)
    if block is not None and block.traceback and block.start <= 1:
        body = window[1 : block.end]
        raised = next(iter(tracebacks(window[: block.end])), None)
        if raised is not None and raised.frame is not None:
            lines.append(str(raised.frame))
        last = next((line.strip() for line in reversed(body) if names_exception(line)), "")
        if last:
            lines.append(last)
            name = last.partition(":")[0].rpartition(".")[2]
            broken = replace(broken, exception=broken.exception or name.strip())
        within = [found["name"] for text in body if (found := _IN_EXTENSIONS.search(text))]
        if broken.name.endswith(".py") and within:  # the innermost frame's is the last
            broken = replace(broken, name=within[-1])
    return replace(broken, lines=tuple(line for line in lines if len(line) <= _LONGEST_SHOWN))
