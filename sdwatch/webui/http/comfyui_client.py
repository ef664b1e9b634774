"""ComfyUI as a WebUI: a call is a prompt in its queue, which outlives the connection and sdwatch.

Queue and history are in ComfyUI's memory only, prompts move from one to the other, and the files
that they saved stay. So a call that was cut off is looked for in that order before it is sent
again, and each prompt has an id and a folder of its own: an identical one would be answered from
the cache with an old file, even a deleted one (measured with ComfyUI 0.33.0).
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from sdwatch.errors import (
    WebUIBadRequestError,
    WebUIError,
    WebUIInterruptedError,
    WebUINoResultError,
    WebUINotSentError,
    WebUIOccupiedError,
    WebUIReplyError,
    WebUIStuckError,
    WebUIUnreachableError,
)
from sdwatch.policy.failure.prompts_sent import PromptToSend, SentPrompt
from sdwatch.policy.kinds.kind import Dialect
from sdwatch.policy.kinds.table import kind_by_stats
from sdwatch.policy.lane.turn import INTERRUPT_WAIT
from sdwatch.policy.translation.lists import lists_of
from sdwatch.policy.translation.template_file import WorkflowTemplate
from sdwatch.policy.translation.templates import Templates
from sdwatch.policy.workflow.node_classes import NodeClass
from sdwatch.policy.workflow.prompt_result import PromptEnd, PromptResult, refusal_in
from sdwatch.policy.workflow.workflow import Workflow
from sdwatch.policy.workflow.workflow_call import call_in, taken
from sdwatch.system.failpoints import failpoint
from sdwatch.system.log_events import LogEvent, about
from sdwatch.webui.http.client import CANARY_HEADER, log_failure
from sdwatch.webui.http.comfyui_questions import ComfyUIQuestions
from sdwatch.webui.http.prompt_progress import PromptProgress, WatchedPrompt
from sdwatch.webui.http.prompt_reply import (
    bounded,
    failed,
    folder_of,
    reply_from,
    reply_from_folder,
)
from sdwatch.webui.http.prompt_workflows import WorkflowsOfCalls, has_no_model, images_in
from sdwatch.webui.http.reply import Reply, error_for, parse_json
from sdwatch.webui.http.template_folder import read_templates

log = logging.getLogger("sdwatch.webui")

_LOOK_EVERY_S = 1.0
_ORPHANS_EVERY_S = 0.2
_TRIES = 3
"""So many questions in a row may fail before nobody is there any more."""

_LONGEST_VERSION = 100
_GIVEN_UP = "sdwatch gave the request up"


def _not_yet() -> None:
    """Nothing has arrived that anybody waits for."""


class ComfyUIClient(ComfyUIQuestions):
    """The ComfyUI at `url`. `auth`: of a proxy in front of it. `call_limit`: seconds that one
    prompt may take. `owner`: what the ids of its prompts' clients start with ('' for one of its
    own): prompts of this owner that nobody waits for are cancelled before another is sent.
    `scratch`: a local folder for large files while they are needed, or None for the system's.
    `templates`: a folder with templates of workflows, or None."""

    dialect = Dialect.PROMPTS
    interrupt_limit = INTERRUPT_WAIT
    """Seconds for the end of a prompt that was interrupted."""

    def __init__(
        self,
        url: str,
        *,
        auth: tuple[str, str] | None = None,
        call_limit: float = 3600.0,
        owner: str = "",
        scratch: Path | None = None,
        templates: Path | None = None,
    ) -> None:
        super().__init__(url, auth)
        self.scratch = scratch
        self._template_folder = templates
        self.version = ""
        """ComfyUI's version, once it is known; or ''."""
        self._auth = auth
        self._call_limit = call_limit
        self._owner = owner or f"sdwatch-{uuid.uuid4().hex}"
        self._classes: dict[str, NodeClass] = {}
        self._workflows = WorkflowsOfCalls(self, self.known_classes, self.template_for)
        self._watched: WatchedPrompt | None = None
        self._last: WatchedPrompt | None = None  # the same, and after its end
        self._fetches = False  # the files of a prompt that has ended
        self._arrived: Callable[[], None] = _not_yet
        self._left = ""  # the last prompt that was given up, and may still run

    # -- what it has

    def system_stats(self, timeout: float) -> Mapping[str, Any]:
        """GET /system_stats, and keep the version in it. Raises WebUIError."""
        system = super().system_stats(timeout)
        self.version = version_in(system) or self.version
        return system

    def read_classes(self, timeout: float) -> Mapping[str, NodeClass]:
        """Return the node classes as they are now, and keep them. Raises WebUIError."""
        self._classes = self.node_classes(timeout)
        return self._classes

    def read_templates(self) -> Templates:
        """Return the templates as they are now. Never raises."""
        return read_templates(self._template_folder)

    def template_for(self, stage: str, payload: Mapping[str, Any]) -> WorkflowTemplate | None:
        """Return the template that a call uses, as it is now; None for a built-in workflow."""
        return self.read_templates().named(stage, payload)

    def known_classes(self) -> Mapping[str, NodeClass]:
        """Return the node classes as they were read last; read them first. Raises WebUIError."""
        return self._classes or self.read_classes(self.answer_limit)

    def listed(self, name: str, timeout: float) -> list[Any]:
        """Return a list under the name that other WebUIs have for it. Raises WebUIError."""
        found = lists_of(self.read_classes(timeout), (), self.read_templates()).get(name)
        return found if isinstance(found, list) else []

    def options(self, _: float) -> dict[str, Any]:
        """Return {}: it has no settings that a call could change."""
        return {}

    def set_options(self, *_: object) -> bool:
        """Return False: it has none."""
        return False

    def progress(self, timeout: float) -> dict[str, Any]:
        """Return how far it is, in the form of /sdapi/v1/progress: `job` is the prompt that runs,
        '' for none. The steps are known of a prompt that this client waits for; while its files
        arrive, they are bytes. Raises WebUIError."""
        running, pending = self.queue(timeout)
        watched = self._watched
        if self._fetches:
            files, size = self.fetched
            position = {"job_no": files, "sampling_step": size, "sampling_steps": max(1, size)}
            return {"state": {"job": "files", "job_count": 1, **position}}
        if not running:
            return {"state": {"job": "queued" if pending else "", "job_count": len(pending)}}
        mine = watched is not None and watched.id in running
        job = watched.id if watched is not None and mine else next(iter(running))
        state = {"job": job, "job_count": len(running) + len(pending)}
        if watched is None or not mine:
            return {"state": state}
        position = watched.progress.position
        most = position["sampling_steps"]
        share = {"progress": position["sampling_step"] / most} if most else {}
        return {**share, "state": {**state, **position}}

    # -- a call

    def generate_images(
        self,
        stage: str,
        payload: Mapping[str, Any],
        given_up: Callable[[], bool] = lambda: False,
        *,
        canary: bool = False,
        prompt: PromptToSend | None = None,
        arrived: Callable[[], None] = lambda: None,
    ) -> Reply:
        """Queue one generation, wait for its end and return its images. See SDWebUIClient.

        `prompt`: its id, and those of earlier attempts: where one of these has a result, that is
        returned, and nothing is sent. Raises WebUINoResultError where none has one and it may not
        be sent.
        """
        prompt = prompt or PromptToSend(str(uuid.uuid4()))
        self._arrived = _not_yet  # what an earlier attempt left says nothing about this one
        self._last = None
        try:
            for sent in prompt.before:
                if (found := self._result_of(sent, stage, payload, given_up)) is not None:
                    event = about(LogEvent.RESULT_TAKEN, prompt=sent.id)
                    log.info("%s: took the result of an earlier attempt", stage, extra=event)
                    return replace(found, taken_from=sent.id)
            if not prompt.may_send:
                raise WebUINoResultError("no earlier attempt has a result in ComfyUI")
            if prompt.before:
                event = about(LogEvent.CALL_STARTED)
                log.info("%s: sent; earlier attempts have no result", stage, extra=event)
            self._arrived = arrived
            return self._sent(stage, payload, given_up, canary, prompt)
        except WebUIError as error:
            error.stage = error.stage or stage
            log_failure(error, stage, 1 + len(prompt.before), payload)
            raise
        finally:
            self._fetches = False

    def all_here(self) -> None:
        """Note that all files of the prompt are here; they are decoded now."""
        self._arrived()

    def _result_of(
        self,
        sent: SentPrompt,
        stage: str,
        payload: Mapping[str, Any],
        given_up: Callable[[], bool],
    ) -> Reply | None:
        """Return what became of an earlier attempt: of its prompt, or of the files that it saved
        before ComfyUI ended; None for nothing. Raises WebUIError for a failure that nobody saw."""
        result = self.result_of(sent.id)
        if result is None and self.is_queued(sent.id):
            with self._watching(sent.id) as watched, _was_sent():
                result = self._end_of(watched, given_up)
        elif result is None:
            result = self.result_of(sent.id)
        self._workflows.take_back(folder_of(sent.id), images_in(stage, payload))
        self._fetches = True
        if result is None:
            return reply_from_folder(self, stage, payload, sent.id)
        if result.end is PromptEnd.FAILED and sent.is_open:
            raise failed(result)
        if result.end is not PromptEnd.SUCCESS:
            return None
        try:
            return reply_from(self, stage, payload, sent.id, taken(payload, result))
        except (WebUIReplyError, WebUIBadRequestError):
            return None  # its files are gone

    def _sent(
        self,
        stage: str,
        payload: Mapping[str, Any],
        given_up: Callable[[], bool],
        canary: bool,
        prompt: PromptToSend,
    ) -> Reply:
        self._fetches = False
        workflow = self._workflows.of(stage, payload, folder_of(prompt.id), canary=canary)
        self._cancel_orphans(prompt, given_up)
        with self._watching(prompt.id, workflow) as watched:
            watched.progress.connect()
            if given_up():
                raise WebUINotSentError(_GIVEN_UP)
            try:
                self._queue_up(prompt.id, workflow, canary=canary)
            except WebUIBadRequestError:
                self._workflows.take_back(folder_of(prompt.id))
                raise
            with _was_sent():
                result = self._end_of(watched, given_up)
        self._workflows.take_back(folder_of(prompt.id))
        if result is None:
            words = "ComfyUI no longer knows this prompt: it was restarted, or its queue cleared"
            raise WebUIUnreachableError(words)
        if result.end is PromptEnd.INTERRUPTED:
            raise WebUIInterruptedError("the prompt was interrupted in ComfyUI")
        if result.end is PromptEnd.FAILED:
            raise failed(result)
        self._fetches = True
        wanted = result if canary else taken(payload, result)
        is_plain = canary and call_in(payload) is None and has_no_model(payload)
        with _was_sent():
            reply = reply_from(self, stage, payload, prompt.id, wanted, is_plain=is_plain)
        if any(reply.one_colour) and not is_plain:
            # NaNs: another attempt would get the same picture from the cache (0.33.0, 0.3 s).
            self.forget_cache(self.answer_limit)
        return reply

    def _queue_up(self, id: str, workflow: Workflow, *, canary: bool) -> None:
        """POST /prompt. Raises WebUIError unless it is in the queue, whole. No answer, and a 500,
        do not prove that it is not."""
        body = {
            "prompt": workflow.as_prompt(),
            "prompt_id": id,
            "client_id": self._client_id(id),
        }
        headers = CANARY_HEADER if canary else None
        try:
            status, said = self._ask(
                "POST", "/prompt", self.answer_limit, body, headers, of_call=True
            )
        except (WebUIStuckError, WebUIUnreachableError):
            if self._has_arrived(id):
                return
            raise
        answer = _json(said)
        why = bounded(refusal_in(answer, workflow))
        if status == 200 and not why:
            return
        if status == 200:
            self.cancel(id, self.answer_limit)
        elif status >= 500 and self._has_arrived(id):
            return
        if status in (200, 400):
            what = "the workflow" if status == 400 else "a part of the workflow"
            words = f"ComfyUI refused {what}: {why or 'without a reason'}"
            raise WebUIBadRequestError(words, status=status, said=why)
        raise error_for(status, said, "/prompt", "")

    def _has_arrived(self, id: str) -> bool:
        try:
            return self.is_queued(id) or self.result_of(id) is not None
        except WebUIError:
            return False

    def _cancel_orphans(self, prompt: PromptToSend, given_up: Callable[[], bool]) -> None:
        """Cancel the prompts of this owner that nobody waits for, and wait for their end: their run
        was cancelled or has changed, perhaps while sdwatch was away. Raises WebUIOccupiedError for
        one that runs on, since no interrupt has an effect inside a node: what is sent now would
        wait behind it."""
        wanted = {prompt.id, *(sent.id for sent in prompt.before)}
        next_cancel = time.monotonic()
        deadline = next_cancel + self.interrupt_limit
        while True:
            queued = {
                id: client for part in self.queue(self.answer_limit) for id, client in part.items()
            }
            orphans = [
                id
                for id, client in queued.items()
                if client.startswith(f"{self._owner}-") and id not in wanted
            ]
            if not orphans:
                break
            if time.monotonic() >= next_cancel:  # it prints a line for each
                for id in orphans:
                    self.cancel(id, self.answer_limit)
                next_cancel = time.monotonic() + _LOOK_EVERY_S
            if given_up():
                raise WebUINotSentError(_GIVEN_UP)
            if time.monotonic() >= deadline:
                raise WebUIOccupiedError("an earlier prompt of sdwatch's own hangs in ComfyUI")
            time.sleep(_ORPHANS_EVERY_S)
        self._workflows.take_back_all_but({folder_of(id) for id in {*wanted, *queued}})

    def _client_id(self, id: str) -> str:
        return f"{self._owner}-{id}"

    # -- waiting

    @contextmanager
    def _watching(self, id: str, workflow: Workflow | None = None) -> Iterator[WatchedPrompt]:
        progress = PromptProgress(self.url, self._client_id(id), id, self._auth)
        watched = WatchedPrompt(id, progress, workflow)
        self._watched, self._last, self._left = watched, watched, id
        try:
            yield watched
            self._left = ""  # it has ended
        finally:
            if self._watched is watched:  # else a later call has begun
                self._watched = None
            watched.progress.close()

    def _end_of(self, watched: WatchedPrompt, given_up: Callable[[], bool]) -> PromptResult | None:
        """Wait until a prompt has ended, and return its result; None where ComfyUI no longer knows
        it. Raises WebUIError where nobody is there any more, or it is not waited for."""
        failures, deadline = 0, time.monotonic() + self._call_limit
        while not given_up():
            if time.monotonic() >= deadline:
                raise WebUIStuckError(f"the prompt did not end within {self._call_limit:g} s")
            try:
                result, is_known = self._look(watched.id)
            except WebUIStuckError:  # it may be loading, and hold everything
                continue
            except WebUIError:
                if (failures := failures + 1) >= _TRIES or given_up():
                    raise
                watched.progress.wait(_LOOK_EVERY_S / 2)
                continue
            if result is not None or not is_known:
                return result
            failures = 0
            if watched.interrupting:  # the one before came in the moment of the start
                self.cancel(watched.id, self.answer_limit)
            watched.progress.wait(_LOOK_EVERY_S)
        raise WebUIUnreachableError(_GIVEN_UP)

    def _look(self, id: str) -> tuple[PromptResult | None, bool]:
        """Return the result of a prompt, and whether it is known. One that leaves the queue between
        two questions is in the history by then."""
        if (result := self.result_of(id)) is not None:
            return result, True
        if self.is_queued(id):
            return None, True
        return self.result_of(id), False

    @property
    def running_node(self) -> str:
        """Return the node in which the last prompt was seen last, for messages; or ''."""
        return self._last.node if self._last is not None else ""

    def interrupt(self, timeout: float = 5.0) -> bool:
        """End the prompt that is waited for, or was given up last, and return whether that was
        accepted. Others are never touched, nor a prompt that a run will look for. Never raises."""
        failpoint("interrupt", Path("interrupt"))
        watched = self._watched
        if watched is not None:
            watched.interrupting = True
        id = watched.id if watched is not None else self._left
        return self.cancel(id, timeout) if id else True

    def abandon(self) -> None:
        """Free whoever waits for the end of a prompt. It stays in the queue."""
        if (watched := self._watched) is not None:
            watched.progress.close()
        super().abandon()


@contextmanager
def _was_sent() -> Iterator[None]:
    """Surround the questions about a prompt that is in the queue: where nobody is there any more,
    the prompt was sent all the same."""
    try:
        yield
    except WebUINotSentError as error:
        raise WebUIUnreachableError(str(error), stage=error.stage) from error


def version_in(system: Mapping[str, Any]) -> str:
    """Return the version in the `system` of /system_stats; '' where it has none that is known."""
    version = system.get(kind_by_stats(system).signs.version_in)
    return version[:_LONGEST_VERSION] if isinstance(version, str) else ""


def _json(body: bytes) -> Any:
    try:
        return parse_json(body)
    except ValueError:
        return None
