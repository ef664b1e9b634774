"""Lines of a WebUI's log that tell of extensions that failed.

A case with an issue's number is shortened from it, with paths and frames made up; the others are
composed from the sources that extensions.py names.
"""

from __future__ import annotations

import pytest

from sdwatch.errors import WebUIServerError
from sdwatch.policy.failure.error_lines import TRACEBACK
from sdwatch.policy.failure.extensions import BrokenExtension, broken_extensions
from sdwatch.policy.failure.reply_checks import Picture, ReplyContents, findings
from sdwatch.policy.failure.tracebacks import own
from tests.support.tables import table


def only(text: str, **payload: object) -> BrokenExtension:
    (found,) = broken_extensions(text.splitlines(), payload)
    return found


# Each shortened: the log, then name, hook and exception.
RAISED = {
    "controlnet#2355": (
        r"""*** Error running process: C:\webui\extensions\sd-webui-controlnet\scripts\controlnet.py
    Traceback (most recent call last):
      File "C:\webui\modules\scripts.py", line 718, in process
        script.process(p, *script_args)
      File "C:\webui\extensions\sd-webui-controlnet\scripts\controlnet.py", line 1053, in process
        self.controlnet_hack(p)
    AttributeError: 'NoneType' object has no attribute 'hack'
---""",
        ("sd-webui-controlnet", "process", "AttributeError"),
    ),
    "controlnet#1368, without stars": (
        r"""Error running process: C:\webui\extensions\sd-webui-controlnet\scripts\controlnet.py
Traceback (most recent call last):
  File "C:\webui\modules\scripts.py", line 418, in process
    script.process(p, *script_args)
  File "C:\webui\extensions\sd-webui-controlnet\scripts\controlnet.py", line 1065, in process
    raise ValueError('controlnet is enabled but no input image is given')
ValueError: controlnet is enabled but no input image is given""",
        ("sd-webui-controlnet", "process", "ValueError"),
    ),
    "adetailer#291, a page of tables with the prompt in it": (
        """*** Error running postprocess_image: /w/extensions/adetailer/scripts/!adetailer.py
    Traceback (most recent call last):
      File "/w/modules/scripts.py", line 575, in postprocess_image
        script.postprocess_image(p, pp, *script_args)
      File "/w/extensions/adetailer/adetailer/traceback.py", line 159, in wrapper
        raise error from None
    ValueError:
    ╭─────────────────────────────────────╮
    │ │          prompt │ a secret castle │
    │ ╭─ Traceback (most recent call last)│
    │ │ ❱ 544 │ │ │ arg_list = self.get_ar│
    ╰─────────────────────────────────────╯
---""",
        ("adetailer", "postprocess_image", "ValueError"),
    ),
    "TensorRT#256": (
        """*** Error running after_extra_networks_activate: /w/extensions/TensorRT/scripts/trt.py
    Traceback (most recent call last):
      File "/w/modules/scripts.py", line 734, in after_extra_networks_activate
        script.after_extra_networks_activate(p, *script_args, **kwargs)
    AssertionError
---""",
        ("TensorRT", "after_extra_networks_activate", "AssertionError"),
    ),
    "a callback": (
        """*** Error executing callback cfg_denoiser_callback for /w/extensions-builtin/x/y.py
    Traceback (most recent call last):
      File "/w/modules/script_callbacks.py", line 220, in cfg_denoiser_callback
        c.callback(params)
    torch.OutOfMemoryError: out of memory
---""",
        ("x", "cfg_denoiser_callback", "OutOfMemoryError"),
    ),
    "adetailer#408, SD.Next": (
        """10:04:15-1 ERROR    Running script postprocess image: extensions\\ad\\!a.py: RuntimeError
╭──────── Traceback (most recent call last) ────────╮
│ D:\\automatic\\modules\\scripts.py:585 in postprocess_image │
│ ❱ 585 │   │   │   │   script.postprocess_image(p, pp, *args) │
╰────────────────────────────────────────────────────╯
RuntimeError: expected scalar type Half""",
        ("ad", "postprocess_image", "RuntimeError"),
    ),
    "SD.Next, in sdnext.log": (
        "2026-11-06 11:15:22,547 | sd | CRITICAL | errors | Running script process batch: "
        "/w/extensions/rp/scripts/rp.py: TypeError",
        ("rp", "process_batch", "TypeError"),
    ),
    "SD.Next, of a batch": (
        "10:04:15-197236 ERROR    Running script before postprocess batch list: /w/scripts/a.py: "
        "KeyError",
        ("a.py", "postprocess_batch_list", "KeyError"),
    ),
    "SD.Next, its first hook": (
        "10:04:15-197236 ERROR    Error running before process: /w/extensions/a/scripts/a.py: "
        "KeyError",
        ("a", "before_process", "KeyError"),
    ),
    "sdnext#326, an old one": (
        """Running script process:
D:\\automatic\\extensions-builtin\\multidiffusion\\scripts\\tilediffusion.py: TypeError
╭──────── Traceback (most recent call last) ────────╮
│ D:\\automatic\\modules\\scripts.py:422 in process   │
│ ❱ 422 │   │   │   │   script.process(p, *args)       │
╰────────────────────────────────────────────────────╯
TypeError: 'bool' object is not iterable""",
        ("multidiffusion", "process", "TypeError"),
    ),
    "a callback in SD.Next": (
        "10:04:15-197236 ERROR    Executing callback: /w/extensions/x/scripts/y.py "
        "cfg_denoiser_callback: ValueError",
        ("x", "cfg_denoiser_callback", "ValueError"),
    ),
    "adetailer#339": (
        """[-] ADetailer: Invalid arguments passed to ADetailer.
    input: ()
    ADetailer disabled.""",
        ("ADetailer", "", ""),
    ),
    "a logger": (
        "2023-11-14 00:49:37,108 - AnimateDiff - ERROR - Motion module not found.",
        ("AnimateDiff", "", ""),
    ),
    "mov2mov#116": (
        "2023-11-09 20:36:00,279 - ControlNet - WARNING - No ControlNetUnit detected in args.",
        ("ControlNet", "", ""),
    ),
}  # fmt: skip


@table(("log", "known"), RAISED.values(), ids=RAISED)
def test_an_extension_that_raised_in_a_call_has_a_name(
    log: str, known: tuple[str, str, str]
) -> None:
    broken = only(log)
    assert (broken.name, broken.hook, broken.exception) == known
    assert not broken.of_start
    assert broken.lines[0] == log.splitlines()[0].strip() or len(log.splitlines()[0]) > 300


OF_START = {
    "a script": (
        """*** Error loading script: extra_samplers.py
    Traceback (most recent call last):
      File "B:\\webui\\modules\\scripts.py", line 530, in load_scripts
        script_module = script_loading.load_module(scriptfile.path)
      File "B:\\webui\\extensions\\extra-samplers\\scripts\\e.py", line 12, in <module>
        from lib_es.samplers import add_extra_samplers
    ModuleNotFoundError: No module named 'comfy.model_sampling'
---""",
        ("extra-samplers", "ModuleNotFoundError", False),
    ),
    "adetailer#304": (
        """*** Error calling: /w/extensions/adetailer/scripts/!adetailer.py/ui
    Traceback (most recent call last):
      File "/w/modules/scripts.py", line 547, in wrap_call
        return func(*args, **kwargs)
    TypeError: Row.__init__() got an unexpected keyword argument 'open'
---""",
        ("adetailer", "TypeError", True),
    ),
    "traintrain#2": (
        """*** Error executing callback app_started_callback for C:\\w\\extensions\\traintrain\\t.py
    Traceback (most recent call last):
      File "C:\\w\\modules\\script_callbacks.py", line 142, in app_started_callback
        c.callback(demo, app)
    TypeError: 'NoneType' object is not subscriptable
---""",
        ("traintrain", "TypeError", True),
    ),
    "a component": (
        "*** Error running before_component: /w/extensions/x/scripts/y.py",
        ("x", "", True),
    ),
    "SD.Next": (
        "10:04:15-197236 ERROR    Load script: y.py: ImportError", ("y.py", "ImportError", False)
    ),
    "SD.Next's ui": (
        "10:04:15-197236 CRITICAL Calling script: /w/extensions/x/scripts/y.py/ui: KeyError",
        ("x", "KeyError", True),
    ),
}  # fmt: skip


@table(("log", "known"), OF_START.values(), ids=OF_START)
def test_an_extension_that_failed_at_the_start_is_distinguished_from_one_in_a_call(
    log: str, known: tuple[str, str, bool]
) -> None:
    broken = only(log)
    assert (broken.name, broken.exception, broken.loaded) == known
    assert broken.of_start


@table(
    "line",
    [
        "Running on local URL:  http://127.0.0.1:7860",
        "10:04:15-197236 INFO     Running script process: /w/extensions/x/scripts/y.py",
        "[-] ADetailer initialized. version: 24.4.2, num models: 16",
        "[-] ADetailer: nothing detected on image 1 with 1st settings.",
        "2023-11-14 00:49:37,108 - AnimateDiff - INFO - Hacking ControlNet.",
        "2023-11-14 00:49:37,108 - root - ERROR - something else",
        "a prompt says *** Error running process: /w/extensions/x/scripts/y.py",
        "DEBUG    txt2img: prompt=*** Error running process: /w/extensions/x/scripts/y.py|",
        "*** Error running process: a castle",
        "",
    ],
)
def test_a_line_about_something_else_is_no_failed_extension(line: str) -> None:
    assert broken_extensions([line], {}) == []


def test_a_prompt_that_an_extension_printed_as_it_is_is_no_failure() -> None:
    log = RAISED["controlnet#1368, without stars"][0]
    assert broken_extensions(log.splitlines(), {"prompt": f"a castle\n{log}\nby the sea"}) == []
    in_arguments = {"alwayson_scripts": {"x": {"args": [{"ad_prompt": log}]}}}
    assert broken_extensions(log.splitlines(), in_arguments) == []


def test_a_hook_that_raises_in_every_step_is_reported_once() -> None:
    log = RAISED["a callback"][0].splitlines() * 20
    assert len(broken_extensions(log, {})) == 1


def test_the_lines_are_the_extensions_own_and_no_prompt_in_a_table() -> None:
    lines = only(RAISED["adetailer#291, a page of tables with the prompt in it"][0]).lines
    assert "secret castle" not in "\n".join(lines)
    assert lines[-1] == "ValueError:"


def test_its_lines_have_the_place_and_the_exception() -> None:
    lines = only(RAISED["controlnet#1368, without stars"][0]).lines
    assert "controlnet.py, line 1065, in process" in lines[1]
    assert lines[2] == "ValueError: controlnet is enabled but no input image is given"


def test_the_words_have_nothing_of_a_prompt_in_them() -> None:
    log = RAISED["controlnet#1368, without stars"][0].replace("is given", "a secret castle")
    contents = ReplyContents([Picture((512, 512))], {}, log=log.splitlines())
    (finding,) = findings("txt2img", {}, contents)
    assert finding.kind == "extension"
    assert "castle" in finding.line
    assert "castle" not in finding.words


@pytest.mark.parametrize(
    ("prompt", "times"),
    [("a castle, EasyNegative-2 x", 1), ("a castle", 0), ("easynegative-20", 0)],
)
def test_an_embedding_that_is_not_loaded_matters_to_the_prompt_that_names_it(
    prompt: str, times: int
) -> None:
    log = ["*** Error loading embedding /w/embeddings/EasyNegative-2.safetensors"]
    made = ReplyContents([Picture((64, 64))], {}, log=log)
    found = findings("txt2img", {"negative_prompt": prompt, "width": 64, "height": 64}, made)
    assert [finding.kind for finding in found] == ["fallback"] * times


@pytest.mark.parametrize(
    "line",
    [
        "activating extra network lora with arguments [<x object at 0x7f>]: NameError",
        "activating extra network lora: NameError",
        "loading network /w/models/Lora/x.safetensors: ValueError",
    ],
)
def test_a_lora_that_raised_is_a_fallback(line: str) -> None:
    made = ReplyContents([Picture((64, 64))], {}, log=[line, f"de{line}"])
    (finding,) = findings("txt2img", {"width": 64, "height": 64}, made)
    assert (finding.kind, "LoRA" in finding.words) == ("fallback", True)


@pytest.mark.parametrize("case", ["controlnet#2355", "controlnet#1368, without stars"])
def test_the_traceback_of_an_extension_that_was_passed_over_explains_no_500(case: str) -> None:
    lines = RAISED[case][0].splitlines()
    error = WebUIServerError("500", status=500)
    assert own(lines, error) is None
    server = [
        "ERROR:    Exception in ASGI application",
        f"{TRACEBACK}:",
        '  File "a.py", line 1, in f',
    ]
    explained = own([*lines, *server, "KeyError: 'x'"], error)
    assert explained is not None
    assert explained.name == "KeyError"
