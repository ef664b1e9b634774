"""The pages beside the overview: the form that drops a job, the editor of a retry, one run, and
what went wrong. They work without a script."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from html import escape
from pathlib import PurePosixPath

from sdwatch.policy.job.files.near_miss import JOB_EXTENSIONS, PICTURE_EXTENSIONS
from sdwatch.policy.page.buttons import Forms
from sdwatch.policy.page.markup import Markup, element, join, link_to, name_of, prose
from sdwatch.policy.privacy.printable import printable_text
from sdwatch.policy.queue.run_names import IMAGES
from sdwatch.spool.diagnostics import ENVELOPE, WHY
from sdwatch.spool.failed_points import envelope_of, failed_points_in
from sdwatch.spool.folders import Spool
from sdwatch.spool.run import read_source
from sdwatch.spool.thumbnails import THUMBNAILS, thumbnail_name
from sdwatch.spool.webui_names import WebUINames
from sdwatch.system import EntryKind, disk

NUMBERS = {"width": "Width", "height": "Height", "steps": "Steps", "n_iter": "Images"}
"""Fields of the form that are numbers, with their label. Where one is empty, the WebUI decides."""

_MOST_FILES = 500
_LEVELS, _MOST, _LONGEST_WHY = 3, 5000, 100_000


def document(title: str, *body: str | Iterable[str]) -> str:
    """Return a whole page. `body`: between its <main> tags."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{title} · sdwatch"),
        element("link", rel="stylesheet", href="/static/style.css"),
        element("link", rel="stylesheet", href="/static/forms.css"),
        element("link", rel="icon", href="/static/icon.svg"),
    )
    back = element("p", element("a", "← All jobs", href="/"), class_="brand")
    main = element("main", back, element("h1", title), *body, id="main")
    return f"<!doctype html>\n{element('html', head, element('body', main), lang='en')}\n"


def notice(words: str, tone: str = "bad") -> Markup:
    """Return a text that a screen reader reads out."""
    return element("p", prose(words), class_=f"notice {tone} reason", role="alert")


def signed_in() -> str:
    """Return the page that stores the cookie. It leads on by itself: a link from elsewhere has no
    cookie yet, and this page's own has."""
    again = element("meta", http_equiv="refresh", content="0;url=/")
    words = element("p", "This browser may press buttons now. ", element("a", "Continue", href="/"))
    return document("Signed in", words).replace("</title>", f"</title>{again}", 1)


def drop(
    token: str,
    names: WebUINames,
    given: Mapping[str, str] | None = None,
    problems: Sequence[str] = (),
) -> str:
    """Return the form that drops a job, and the one that drops files. `given`: what was typed,
    `problems`: what is wrong with it."""
    given = given or {}
    digits = {"inputmode": "numeric", "pattern": "[0-9]*", "autocomplete": "off"}
    form = element(
        "form",
        element("input", type="hidden", name="token", value=token),
        _area("prompt", "Prompt", given, rows=4, required=True),
        _area("negative_prompt", "Negative prompt", given, rows=2),
        element(
            "div", [_input(*each, given, **digits) for each in NUMBERS.items()], class_="fields"
        ),
        _choice("checkpoint", "Checkpoint", names.checkpoints, given),
        _choice("sampler_name", "Sampler", names.samplers, given),
        _input("name", "File name", given, placeholder="job"),
        element("button", "Drop the job", type="submit", class_="primary"),
        method="post",
        action="/drop",
        class_="stacked card",
    )
    shown = [notice(each) for each in problems]
    return document("Drop a job", shown, form, element("h2", "Or files"), _drop_files(token))


def _drop_files(token: str) -> Markup:
    return element(
        "form",
        element("input", type="hidden", name="token", value=token),
        element(
            "label",
            "Job files (.yaml, .json), or pictures with their settings",
            element(
                "input",
                type="file",
                name="files",
                multiple=True,
                required=True,
                accept=",".join((*JOB_EXTENSIONS, *PICTURE_EXTENSIONS)),
            ),
        ),
        element("button", "Drop the files", type="submit"),
        method="post",
        action="/drop/files",
        enctype="multipart/form-data",
        class_="stacked card",
    )


def edit(token: str, run_id: str, source: str, job: str, problems: Sequence[str] = ()) -> str:
    """Return the editor of a job that is to be retried. `job`: its text."""
    area = _text_area("job", job, 'rows="24" spellcheck="false" required')
    form = element(
        "form",
        element("input", type="hidden", name="token", value=token),
        element("label", "The job", area),
        element("p", "The run that failed stays as it is; this is a new job.", class_="quiet"),
        element("button", "Retry with these changes", type="submit", class_="primary"),
        method="post",
        action=f"/runs/{link_to(run_id)}/edit",
        class_="stacked card",
    )
    where = element("p", name_of(source), " of run ", name_of(run_id), class_="lead")
    return document("Edit and retry", where, [notice(each) for each in problems], form)


def run_page(spool: Spool, name: str, token: str) -> str | None:
    """Return the page of the run whose folder is `name`, relative to the spool; None if that is not
    a run's folder. `token`: for its buttons, '' for none. Raises OSError."""
    parts = name.split("/")
    if len(parts) != (3 if parts[0] == "working" else 2):
        return None
    folder = spool.root / name
    if not disk.is_folder(folder):
        return None
    found = sorted(
        path
        for path, kind in disk.entries_below(folder, _LEVELS)
        if kind is EntryKind.FILE and not path.rpartition("/")[2].startswith(".")
    )
    files = [(path, _size_of(spool, name, path)) for path in found[:_MOST]]
    why = ""
    if WHY in found:
        why = printable_text(disk.read(folder / WHY)[:_LONGEST_WHY].decode("utf-8", "replace"))
    failed = len(failed_points_in(envelope_of(folder))) if ENVELOPE in found else 0
    source = read_source(folder)
    buttons = buttons_of(name, source, failed, Forms(bool(token), token))
    return _run(name, source, files, why, buttons)


def _size_of(spool: Spool, name: str, path: str) -> int:
    try:
        return disk.look_at(spool.root / name / path).st_size
    except OSError:
        return 0


def buttons_of(folder: str, source: str, points_failed: int, forms: Forms) -> Markup:
    """Return the buttons of a run: to cancel it while it is in working/, else to run it again."""
    name = PurePosixPath(folder).name
    if folder.startswith("working/"):
        return forms.cancel_run(name, source)
    return forms.again(name, source, points_failed)


def _run(
    folder: str, source: str, files: Sequence[tuple[str, int]], why: str, buttons: Markup
) -> str:
    """Return the page of one run. `folder`: relative to the spool; `files`: relative to it, each
    with its size in bytes; `why`: the text of WHY.txt, '' without one."""
    name = PurePosixPath(folder).name
    names = {path for path, _ in files}
    in_images = (path for path, _ in files if path.startswith(f"{IMAGES}/"))
    pictures = [path for path in in_images if path.lower().endswith(PICTURE_EXTENSIONS)]
    rows = [
        element(
            "li",
            element("a", path, href=f"/{link_to(f'{folder}/{path}')}"),
            element("span", f" {_size(size)}", class_="quiet"),
        )
        for path, size in files[:_MOST_FILES]
    ]
    more = len(files) - _MOST_FILES
    return document(
        source or name,
        element("p", name_of(name), " in ", folder.partition("/")[0], "/", class_="lead"),
        element("div", buttons, class_="actions") if buttons else "",
        element("pre", why, class_="card why") if why else "",
        element(
            "ul",
            [_picture(folder, path, names) for path in pictures[:_MOST_FILES]],
            class_="gallery",
        )
        if pictures
        else "",
        element("h2", "Files"),
        element("ul", rows, class_="rows"),
        element("p", f"and {more:,} more", class_="quiet") if more > 0 else "",
    )


def failed(status: int, words: str) -> str:
    """Return the page of a request that failed."""
    title = {401: "The token is needed", 404: "Not found", 413: "Too large"}.get(
        status, "That did not work"
    )
    return document(title, notice(words))


def _picture(folder: str, path: str, files: Container[str]) -> Markup:
    name = PurePosixPath(path).name
    small = f"{THUMBNAILS}/{thumbnail_name(name)}"
    whole, shown = (f"/{link_to(f'{folder}/{each}')}" for each in (path, small))
    src = shown if small in files else whole
    image = element("img", src=src, alt=name, loading="lazy", decoding="async")
    return element("li", element("div", element("a", image, href=whole), class_="thumbs n1"))


def _size(count: int) -> str:
    if count < 10_000:
        return f"{count:,} bytes"
    return f"{count / 1e3:,.0f} KB" if count < 10_000_000 else f"{count / 1e6:,.0f} MB"


def _area(
    name: str, label: str, given: Mapping[str, str], *, rows: int, required: bool = False
) -> Markup:
    marks = f'rows="{rows}"{" required" if required else ""}'
    return element("label", label, _text_area(name, given.get(name, ""), marks))


def _text_area(name: str, value: str, marks: str) -> Markup:
    """Return a field whose text comes back as it was: what shows hidden signs elsewhere would put
    them into the job. A browser drops the first line end of a textarea."""
    return Markup(f'<textarea name="{name}" {marks}>\n{escape(value)}</textarea>')


def _input(name: str, label: str, given: Mapping[str, str], **more: str) -> Markup:
    value = given.get(name) or None
    return element("label", label, element("input", name=name, value=value, **more))


def _choice(name: str, label: str, names: Sequence[str], given: Mapping[str, str]) -> Markup:
    """Return a field that suggests names, and takes others: the lists may be old or cut."""
    id_ = f"of-{name}"
    options = element("datalist", [element("option", value=each) for each in names], id=id_)
    return join(_input(name, label, given, list=id_, placeholder="the WebUI's own"), options)
