"""The simulator, which also writes down when it was started and what was POSTed to it when.

`python recording_simulator.py FILE --port N ...`: FILE gets a line for each, `start PID SECONDS`,
`post PID SECONDS` as a request comes in, and `call PID SECONDS STAGE WHICH` once it is read, all on
the machine's monotonic clock. WHICH is the sha256 of the prompt, of an upscale that of its image.
Of what is POSTed to a ComfyUI only prompts count.
"""

import time

_BEGUN = time.monotonic()  # before the imports, which take longer than the start itself

import base64  # noqa: E402
import hashlib  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402


def note(event: str, at: float, *more: str) -> None:
    """Append a line, in one write."""
    with open(_FILE, "a", encoding="ascii") as file:
        file.write(" ".join((event, str(os.getpid()), repr(at), *more)) + "\n")


def which(raw: bytes) -> str:
    """Return an id for the call that a request belongs to, the same for each time that it is
    sent."""
    fields = json.loads(raw)
    data = base64.b64decode(fields["image"]) if "image" in fields else fields["prompt"].encode()
    return hashlib.sha256(data).hexdigest()


def of_workflow(raw: bytes, site: Any) -> tuple[str, str]:
    """Return stage and id of a workflow of ComfyUI. The image of an upscale was uploaded before."""
    workflow = json.loads(raw)["prompt"]
    texts = [str(node["inputs"].get("text", "")) for node in workflow.values()]
    if prompt := next((text for text in texts if text.startswith("chaos ")), ""):
        return stage_of(workflow), hashlib.sha256(prompt.encode()).hexdigest()
    names = [node["inputs"]["image"] for node in workflow.values() if node["class_type"] == _LOADS]
    paths = [site.machine.folders.annotated(name) for name in names]
    return stage_of(workflow), hashlib.sha256(paths[0].read_bytes() if paths else b"").hexdigest()


_LOADS = "LoadImage"
_PROMPT = "/prompt"  # where a ComfyUI takes workflows


if __name__ == "__main__":
    _FILE = Path(sys.argv.pop(1))
    note("start", _BEGUN)

    from sdwatch.simulator.__main__ import main
    from sdwatch.simulator.comfyui_machine import stage_of
    from sdwatch.simulator.comfyui_site import ComfySite
    from sdwatch.simulator.faults import STAGES
    from sdwatch.simulator.server import Handler
    from sdwatch.simulator.site import API, Request, Response, Site

    def _do_post(self: Handler) -> None:
        if self.path.startswith((API, _PROMPT)):
            note("post", time.monotonic())
        self._serve()

    def noting(answer: Callable[[Any, Request], Response]) -> Callable[[Any, Request], Response]:
        def noted(self: Any, request: Request) -> Response:
            stage, what = request.path.removeprefix(API), "canary" if request.canary else "call"
            if stage in STAGES:
                note(what, time.monotonic(), stage, which(request.raw))
            elif request.path == _PROMPT and request.method == "POST":
                note(what, time.monotonic(), *of_workflow(request.raw, self))
            return answer(self, request)

        return noted

    Handler.do_POST = _do_post  # type: ignore[method-assign]
    for site in (Site, ComfySite):
        site.answer = noting(site.answer)  # type: ignore[method-assign]
    main()
