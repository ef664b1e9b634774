"""The buttons of the live page: small forms, which work without a script. Pure.

Each is a POST with `token` as a hidden input, to: /hold, /resume, /runs/RUN/cancel,
/runs/RUN/retry, /runs/RUN/retry-points, and /inbox/cancel with `source`. Two are links to forms of
the server, with GET: /drop, and /runs/RUN/edit, which retries a run with an edited job.
"""

from __future__ import annotations

from dataclasses import dataclass

from sdwatch.policy.page.markup import Markup, element, link_to


@dataclass(frozen=True)
class Forms:
    """The buttons; without `live` there are none: a file cannot do anything."""

    live: bool = False
    token: str = ""

    def cancel_run(self, run_id: str, source: str) -> Markup:
        """Return the button that cancels a run in working/."""
        return self._form(f"/runs/{link_to(run_id)}/cancel", "Cancel", f"Cancel {source}")

    def cancel_job(self, source: str) -> Markup:
        """Return the button that cancels a job in the inbox."""
        return self._form("/inbox/cancel", "Cancel", f"Cancel {source}", source=source)

    def again(self, run_id: str, source: str, points_failed: int = 0) -> Markup:
        """Return the buttons that run an ended run's job again, as it was or edited; the first one,
        only the points that failed, if there are any."""
        run = f"/runs/{link_to(run_id)}"
        label = "Retry the failed point" if points_failed == 1 else "Retry failed points"
        return Markup(
            (
                self._form(f"{run}/retry-points", label, f"{label} of {source}")
                if points_failed
                else ""
            )
            + self._form(
                f"{run}/retry", "Retry all" if points_failed else "Retry", f"Retry {source}"
            )
            + self._link(f"{run}/edit", "Edit and retry", f"Edit and retry {source}")
        )

    def hold_or_resume(self, held: bool) -> Markup:
        """Return the button that holds everything, or ends the hold."""
        if held:
            return self._form("/resume", "Resume", "Resume: remove the hold file")
        return self._form("/hold", "Hold", "Hold: start no new call")

    def drop(self) -> Markup:
        """Return the link to the form that drops a job."""
        return self._link("/drop", "Drop a job", "Drop a job into the inbox", "button primary")

    def _form(self, action: str, label: str, title: str, **fields: str) -> Markup:
        if not self.live:
            return Markup()
        given = {"token": self.token, **fields}
        inputs = [element("input", type="hidden", name=n, value=v) for n, v in given.items()]
        button = element("button", label, type="submit", aria_label=title)
        return element("form", inputs, button, method="post", action=action)

    def _link(self, href: str, label: str, title: str, class_: str = "button") -> Markup:
        if not self.live:
            return Markup()
        return element("a", label, class_=class_, href=href, aria_label=title)
