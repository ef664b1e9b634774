"""What a run asks of its lane's supervisor."""

from __future__ import annotations

import threading
from collections.abc import Callable

from sdwatch.webui.http.canary import By, SelfTestFailure

GIVEN_UP = "given up"


class LaneRequest:
    """What a run asks the supervisor's thread to `act` on.

    `self_test_failure` is the answer once it is `done`. `binds`: the action needs the run's permit;
    while `bound` is set, the run keeps it.
    """

    def __init__(
        self,
        act: Callable[[LaneRequest], SelfTestFailure | None],
        give_up: threading.Event,
        *,
        binds: bool = False,
    ) -> None:
        self.done = threading.Event()
        self.act = act
        self.binds = binds
        self.bound = False
        self.self_test_failure: SelfTestFailure | None = SelfTestFailure(
            "internal error", By.NOT_ASKED
        )
        self._give_up = give_up

    @property
    def given_up(self) -> bool:
        """Return whether the run no longer waits for it."""
        return self._give_up.is_set()

    def why_over(self) -> str:
        """Return why the action need not be waited for any longer, or ''."""
        return GIVEN_UP if self.given_up else ""
