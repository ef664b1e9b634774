"""One attempt of a call: send the POST, and wait for whatever comes first.

The POST runs on a helper thread. The run's thread waits on one mailbox for the reply, the exit of
the process, a stall, a cancel or the monitor's stop.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from sdwatch.errors import (
    WebUIBusyError,
    WebUIError,
    WebUIStuckError,
    WebUIUnreachableError,
)
from sdwatch.policy.failure.tracebacks import may_follow
from sdwatch.webui.http.call import PreparedCall, Sent
from sdwatch.webui.http.mailbox import Exited, Mailbox, Message, Replied, Stalled
from sdwatch.webui.http.post import result_of
from sdwatch.webui.http.reply import Reply
from sdwatch.webui.http.roles import CallObserver, Client, Recorder, SupervisedProcess
from sdwatch.webui.log.log_lines import split_lines, without_probes

INTERRUPT_WAIT = 10.0

EXIT_WAIT = 1.0
"""Seconds by which the exit of a process may follow the end of its connection."""


class Attempts:
    """Sends the attempts of one run to one WebUI. Arguments as for WebUIAPI."""

    def __init__(
        self,
        client: Client,
        process: SupervisedProcess,
        recorder: Recorder,
        observer: CallObserver | None,
        mailbox: Mailbox,
        *,
        managed: bool,
        interrupt_wait: float,
    ) -> None:
        self._client = client
        self._process = process
        self._recorder = recorder
        self._observer = observer
        self._mailbox = mailbox
        self._managed = managed
        self._interrupt_wait = interrupt_wait
        self._in_flight: Sent | None = None

    def send(self, call: PreparedCall, sent: Sent) -> Reply:
        """Send once, and wait for what comes first. Raises WebUIError, RunCancelledError,
        RunStoppedError."""
        self._mailbox.raise_if_given_up()
        self._mailbox.forget_stalls()
        if self._observer is not None:
            self._observer.before_call(call.payload)
        self._recorder.call_started(sent.incarnation)
        if self._observer is not None:
            sent.first = self._observer.sending(call.stage)
        self._in_flight = sent
        threading.Thread(
            target=self._send, args=(call, sent), name=f"post-{call.stage}", daemon=True
        ).start()

        def wanted(message: Message) -> bool:
            if isinstance(message, Replied):
                return message.post is sent
            return not isinstance(message, Exited) or message.incarnation == sent.incarnation

        message = self._mailbox.wait(wanted)
        if isinstance(message, Stalled):
            raise self._stuck_or_busy(call, sent, message)
        if isinstance(message, Exited):
            return self._reply_before_exit(call, sent, message)
        assert isinstance(message, Replied)
        self._in_flight = None
        if isinstance(message.result, Reply):
            return message.result
        raise message.result

    def _stuck_or_busy(self, call: PreparedCall, sent: Sent, stalled: Stalled) -> WebUIError:
        """Return what a stall means. On an external WebUI the generation without progress may be
        somebody else's, with this one queued behind it."""
        error: WebUIError
        if self._managed:
            error = WebUIStuckError(stalled.reason, stage=call.stage)
        else:
            sent.lost = True
            error = WebUIBusyError(
                f"{stalled.reason}, and this WebUI is not ours: another generation holds it and it "
                "may still generate this one, so nothing is sent again until it is idle (if it "
                "hangs, restart it by hand)",
                stage=call.stage,
            )
        error.probes = stalled.probes
        return error

    def _send(self, call: PreparedCall, sent: Sent) -> None:
        def generate() -> Reply:
            return self._client.generate_images(call.stage, call.payload, lambda: sent.given_up)

        self._mailbox.post(Replied(sent, result_of(generate, call.stage)))

    def _reply_of(self, sent: Sent, seconds: float) -> Reply | None:
        """Return the reply that may still come for a POST that was given up, or None."""
        message = self._mailbox.wait(lambda m: isinstance(m, Replied) and m.post is sent, seconds)
        if isinstance(message, Replied) and isinstance(message.result, Reply):
            return message.result
        return None

    def _reply_before_exit(self, call: PreparedCall, sent: Sent, exited: Exited) -> Reply:
        """Return the reply if it was complete before the process ended. Raises
        WebUIUnreachableError."""
        if (reply := self._reply_of(sent, EXIT_WAIT)) is not None:
            return reply
        self.abandon()
        self._mailbox.post(exited)  # `ended` looks for it again
        raise WebUIUnreachableError("the WebUI's process ended", stage=call.stage)

    def give_up(self, why: str) -> None:
        """End a generation that nobody needs any more, if the WebUI is managed. Do not wait for
        it."""
        if self._in_flight is not None and self._managed:
            self._client.interrupt()
        self.abandon()
        self._recorder.call_given_up(why)

    def abandon(self) -> None:
        """Stop waiting for the POST in flight."""
        if self._in_flight is not None:
            self._in_flight.given_up = True
            self._in_flight = None
        self._client.abandon()

    def ended(self, sent: Sent) -> Exited | None:
        """Return the exit of the process that this was sent to, if it was seen. Never waits."""
        seen = self._mailbox.seen(_end_of(sent))
        return seen if isinstance(seen, Exited) else None

    def exit_of(self, sent: Sent, error: WebUIError) -> tuple[bool, int | None]:
        """Return whether the process of this POST ended, and its exit code. A connection breaks a
        moment before the end of its process is seen; after a reply the process may end
        meanwhile."""
        if may_follow(error) and (ended := self.ended(sent)) is not None:
            return True, ended.code
        if not isinstance(error, WebUIUnreachableError):
            return False, None
        exited = self._mailbox.wait(_end_of(sent), EXIT_WAIT)
        if isinstance(exited, Exited):
            return True, exited.code
        return not self._process.is_process_alive(), None

    def interrupt_frees(self, sent: Sent) -> bool:
        """Interrupt a stuck generation. Return whether its reply then came; it is discarded."""
        if not self._managed or not self._client.interrupt():
            return False
        return self._reply_of(sent, self._interrupt_wait) is not None

    def wait_for_traceback(self, sent: Sent, error: WebUIError) -> None:
        """Wait for what the WebUI prints only after its answer: the diagnosis needs it. A stop or
        cancel ends the wait, and the failure is recorded as it is known by then."""
        if self._observer is None or not may_follow(error):
            return

        def is_over() -> bool:
            return self._mailbox.given_up.is_set() or self.ended(sent) is not None

        self._observer.wait_for_traceback(error, is_over)

    def printed(self, log: Sequence[str], sent: Sent) -> tuple[str, ...] | None:
        """Return the lines of `log` that belong to this call, without the access lines of probes;
        None where they cannot be separated from the lines of others' calls."""
        if self._observer is None or sent.lost or not self._observer.has_log:
            return None
        lines, _ = without_probes(split_lines("\n".join(log)))
        return tuple(line.text for line in lines)


def _end_of(sent: Sent) -> Callable[[Message], bool]:
    return lambda message: isinstance(message, Exited) and message.incarnation == sent.incarnation
