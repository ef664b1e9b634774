"""What a run asks of its lane's supervisor."""

from __future__ import annotations

import threading
from collections.abc import Callable

from sdwatch.webui.http.canary import By, SelfTestFailure

GIVEN_UP = "given up"


class Request:
    """What a run asks the supervisor's thread to `act` for it; `self_test_failure` is the answer
    once it is `done`. `binds`: that needs the run's permit, which is `bound` while it is so."""

    def __init__(
        self,
        act: Callable[[Request], SelfTestFailure | None],
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
        """Whether the run waits for it no longer."""
        return self._give_up.is_set()

    def why_over(self) -> str:
        """Why what is done for it is not to be waited for any more, or ''."""
        return GIVEN_UP if self.given_up else ""
