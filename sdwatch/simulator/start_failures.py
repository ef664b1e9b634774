"""Starts that fail before there is a server: what each prints, and how it ends.

The words are those of public reports, shortened; the paths are made up.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from typing import NoReturn

from sdwatch.simulator import console


@dataclass(frozen=True)
class StartFailure:
    """`said` goes to stderr; then the process ends with `code`, or by `signal`."""

    said: str
    code: int = 1
    signal: int = 0


_WRONG_FOLDER = """\
/srv/webui/venv/bin/python: can't open file '/srv/launch.py': [Errno 2] No such file or directory"""

# AUTOMATIC1111#17255, #17218, #17205
_REPOSITORY_GONE = """\
Cloning Stable Diffusion into /srv/webui/repositories/stable-diffusion-stability-ai...
Cloning into '/srv/webui/repositories/stable-diffusion-stability-ai'...
remote: Repository not found.
fatal: repository 'https://github.com/Stability-AI/stablediffusion.git/' not found
Traceback (most recent call last):
  File "/srv/webui/launch.py", line 48, in <module>
    main()
  File "/srv/webui/modules/launch_utils.py", line 192, in git_clone
    run(f'"{git}" clone --config core.filemode=false "{url}" "{dir}"')
  File "/srv/webui/modules/launch_utils.py", line 116, in run
    raise RuntimeError("\\n".join(error_bits))
RuntimeError: Couldn't clone Stable Diffusion.
Command: "git" clone "https://github.com/Stability-AI/stablediffusion.git" "/srv/webui/repositories"
Error code: 128"""

# AUTOMATIC1111#9163, after a power cut
_DAMAGED_SETTINGS = """\
Traceback (most recent call last):
  File "/srv/webui/launch.py", line 356, in <module>
    start()
  File "/srv/webui/webui.py", line 31, in <module>
    from modules import extra_networks, ui_extra_networks_checkpoints
  File "/srv/webui/modules/shared.py", line 580, in <module>
    opts.load(config_filename)
  File "/srv/webui/modules/shared.py", line 515, in load
    self.data = json.load(file)
  File "/usr/lib/python3.10/json/decoder.py", line 355, in raw_decode
    raise JSONDecodeError("Expecting value", s, err.value) from None
json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)"""

# measured with Forge dfdcbab6; forge#2191
_NO_GPU = """\
Traceback (most recent call last):
  File "/srv/webui/launch.py", line 54, in <module>
    main()
  File "/srv/webui/modules/launch_utils.py", line 436, in prepare_environment
    raise RuntimeError(
RuntimeError: Your device does not support the current version of Torch/CUDA! Consider download \
another version"""

START_FAILURES = {
    "wrong-folder": StartFailure(_WRONG_FOLDER, 2),
    "repository-gone": StartFailure(_REPOSITORY_GONE),
    "damaged-settings": StartFailure(_DAMAGED_SETTINGS),
    "no-gpu": StartFailure(_NO_GPU),
    "sigterm-on-start": StartFailure("", signal=signal.SIGTERM),
    "sigkill-on-start": StartFailure("", signal=getattr(signal, "SIGKILL", signal.SIGTERM)),
}
"""By the name of the fault."""


def fail(failure: StartFailure) -> NoReturn:
    """Print, and end as it does."""
    if failure.said:
        console.err(failure.said)
    if failure.signal:
        os.kill(os.getpid(), failure.signal)
    sys.exit(failure.code)


# forge#949, #1479
SERVER_THREAD_DIED = """\
Exception in thread Thread-22 (webui_worker):
Traceback (most recent call last):
  File "threading.py", line 1016, in _bootstrap_inner
  File "threading.py", line 953, in run
  File "/srv/webui/webui.py", line 86, in webui_worker
    app, local_url, share_url = shared.demo.launch(
  File "/srv/webui/venv/lib/python3.10/site-packages/gradio/blocks.py", line 2446, in launch
    raise ValueError(
ValueError: When localhost is not accessible, a shareable link must be created. Please set \
share=True or check your proxy settings to allow access to localhost."""
