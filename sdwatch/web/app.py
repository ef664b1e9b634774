"""The live page as an ASGI application: routes, and what holds for each request."""

from __future__ import annotations

import errno
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from importlib import resources
from typing import Any
from urllib.parse import quote, unquote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from sdwatch.config import Config
from sdwatch.errors import JobError, NotFoundError, SdwatchError, SpoolError
from sdwatch.policy.page import page
from sdwatch.policy.page.overview import Overview, as_json
from sdwatch.spool import commands
from sdwatch.spool.folders import Spool
from sdwatch.spool.overview_reader import OverviewReader
from sdwatch.spool.webui_names import read_names
from sdwatch.system import disk
from sdwatch.web import actions, pages
from sdwatch.web.access import Access, Asked, Refusal, RequestError
from sdwatch.web.files import send_file
from sdwatch.web.headers import with_headers
from sdwatch.web.live import MOST_WATCHERS, LiveOverview
from sdwatch.web.metrics import CONTENT_TYPE, Metrics
from sdwatch.web.pages import run_page
from sdwatch.web.request_forms import Form, read_form
from sdwatch.web.url_paths import checked_name, waiting_job, working_run

Handler = Callable[[Request], Awaitable[Response]]

_STATIC = {
    "style.css": (page.__package__, "text/css; charset=utf-8"),
    "forms.css": (__package__, "text/css; charset=utf-8"),
    "icon.svg": (page.__package__, "image/svg+xml"),
    "live.js": (__package__, "text/javascript; charset=utf-8"),
}
_NO_ANSWER = "The spool's folder does not answer: its share may be gone. This page tries again."


@dataclass
class WebApp:
    """The application for one spool. `config`: whose rules hold for jobs that are dropped here."""

    spool: Spool
    config: Config
    access: Access

    def __post_init__(self) -> None:
        reader = OverviewReader(self.spool.root)
        self.live = LiveOverview(reader)
        self._shown: dict[str, tuple[Overview, str]] = {}  # by the token of its forms, one or none
        self._metrics = Metrics(self.spool, reader)

    def asgi(self) -> Any:
        """Return the application."""
        get = ("GET", "HEAD")
        routes = [
            self._route("/", self._overview, get),
            self._route("/static/{name}", self._static, get, is_open=True),
            self._route("/events", self._events, ("GET",)),
            self._route("/status.json", self._status, get),
            self._route("/metrics", self._metrics_page, get),
            self._route("/drop", self._drop_page, get),
            self._route("/runs/{run}/edit", self._edit_page, get),
            *(self._route(f"/{f}/{{path:path}}", self._file, get) for f in _FOLDERS),
            self._change("/hold", lambda _, __: actions.hold(self.spool)),
            self._change("/resume", lambda _, __: actions.resume(self.spool)),
            self._change("/inbox/cancel", self._cancel_job),
            self._change("/runs/{run}/cancel", self._cancel_run),
            self._change("/runs/{run}/retry", lambda r, _: actions.retry(self.spool, _run(r))),
            self._change(
                "/runs/{run}/retry-points",
                lambda r, _: actions.retry_failed_points(self.spool, _run(r), self.config.rules),
            ),
            self._change("/runs/{run}/edit", self._edit),
            self._change("/drop", self._drop),
            self._change("/drop/files", self._drop_files),
        ]
        app = Starlette(routes=routes, exception_handlers={HTTPException: self._http_error})
        return with_headers(app)

    # -- who may do what

    def _route(
        self, path: str, handler: Handler, methods: tuple[str, ...], *, is_open: bool = False
    ) -> Route:
        async def answer(request: Request) -> Response:
            asked = self._asked(request)
            refuses = self.access.refuses_host if is_open else self.access.refuses_reading
            token = request.query_params.get("token", "")
            is_link = bool(token) and self.access.refuses_host(asked) is None
            if is_link and self.access.accepts(token):
                return self._signed_in()
            try:
                if is_link and not self.access.knows(asked):
                    raise RequestError(*Refusal.WRONG_TOKEN.value)
                if refusal := refuses(asked):
                    raise RequestError(*refusal.value)
                return await handler(request)
            except (SdwatchError, OSError) as error:
                return self._failed(request, error)

        return Route(path, answer, methods=list(methods))

    def _change(self, path: str, action: Callable[[Request, Form], str]) -> Route:
        """Return the route of something that changes state: who asks is checked before the form is
        read, and the form's token after."""

        async def answer(request: Request) -> Response:
            try:
                asked = self._asked(request)
                if refusal := self.access.refuses_change(asked, self.access.form_token):
                    raise RequestError(*refusal.value)
                async with read_form(request) as form:
                    if refusal := self.access.refuses_change(asked, form.token):
                        raise RequestError(*refusal.value)
                    said = await run_in_threadpool(action, request, form)
            except JobError as error:
                return await self._job_error(request, form, error)
            except (SdwatchError, OSError) as error:
                return self._failed(request, error)
            if _wants_json(request):
                return _json({"done": said})
            return self._back(said)

        return Route(path, answer, methods=["POST"])

    def _asked(self, request: Request) -> Asked:
        headers = request.headers
        kind, _, bearer = headers.get("authorization", "").partition(" ")
        frame = headers.get("sec-fetch-dest", "document") != "document"
        return Asked(
            host=headers.get("host", ""),
            origin=headers.get("origin", ""),
            site=headers.get("sec-fetch-site", ""),
            mode="" if frame else headers.get("sec-fetch-mode", ""),
            bearer=bearer.strip() if kind.lower() == "bearer" else "",
            cookie=request.cookies.get(self.access.cookie_name, ""),
            forwarded=any(name in headers for name in ("forwarded", "x-forwarded-for", "via")),
        )

    def _token(self, request: Request) -> str:
        """Return the token for the forms of whoever may press them; '' for all others."""
        return self.access.form_token if self.access.knows(self._asked(request)) else ""

    def _back(self, said: str) -> Response:
        """Return to the page, which then says what was done, once: a cookie carries it there, since
        anybody could write what stands in a link."""
        response = RedirectResponse("/", HTTPStatus.SEE_OTHER)
        response.set_cookie(
            self._said_name,
            quote(said[:_LONGEST_SAID], errors="replace"),
            max_age=60,
            httponly=True,
            samesite="strict",
            secure=self.access.is_encrypted,
        )
        return response

    @property
    def _said_name(self) -> str:
        return f"{self.access.cookie_name}-said"

    def _signed_in(self) -> Response:
        response = HTMLResponse(pages.signed_in())
        response.set_cookie(
            self.access.cookie_name,
            self.access.cookie,
            max_age=30 * 24 * 3600,
            httponly=True,
            samesite="strict",
            secure=self.access.is_encrypted,
        )
        return response

    # -- what is shown

    async def _overview(self, request: Request) -> Response:
        if (overview := await self.live.now()) is None:
            return self._page(pages.failed(503, _NO_ANSWER), 503, {"Refresh": "5"})
        said = unquote(request.cookies.get(self._said_name, ""))
        shown = page.whole(overview, live=True, token=self._token(request), said=said)
        response = self._page(shown)
        if said:
            response.delete_cookie(self._said_name)
        return response

    async def _events(self, request: Request) -> Response:
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        if self.live.watchers >= MOST_WATCHERS:
            words = "too many pages are open at once"
            return Response(words, HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "10"})
        token = self._token(request)
        stream = self.live.events(lambda overview: self._main(overview, token))
        return StreamingResponse(stream, media_type="text/event-stream")

    def _main(self, overview: Overview, token: str) -> str:
        """Return the page between its <main> tags, made once for all browsers that get the same."""
        shown, main = self._shown.get(token, (None, ""))
        if shown is not overview:
            main = page.main(overview, live=True, token=token)
            self._shown[token] = overview, main
        return main

    async def _status(self, _: Request) -> Response:
        overview = await self._current()
        return _json(as_json(overview))

    async def _current(self) -> Overview:
        """Return how the spool stands. Raises SdwatchError where its folder does not answer."""
        if (overview := await self.live.now()) is None:
            raise RequestError(HTTPStatus.SERVICE_UNAVAILABLE, _NO_ANSWER)
        return overview

    async def _metrics_page(self, _: Request) -> Response:
        text = await self.live.alone(self._metrics.text, await self._current())
        return Response(text, media_type=CONTENT_TYPE)

    async def _static(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _STATIC:
            raise NotFoundError("there is no such file")
        package, kind = _STATIC[name]
        data = resources.files(package or "").joinpath(name).read_bytes()
        return Response(data, media_type=kind)

    async def _file(self, request: Request) -> Response:
        name = checked_name(request.scope["path"][1:])
        forms = self._token(request)
        if (shown := await run_in_threadpool(run_page, self.spool, name, forms)) is not None:
            return self._page(shown)
        try:
            return await send_file(self.spool, name, request.headers, request.method)
        except SpoolError as error:  # a folder, a pipe, a link
            raise NotFoundError(f"{name} {error}") from error

    async def _drop_page(self, request: Request) -> Response:
        if not (token := self._token(request)):
            raise RequestError(*Refusal.TOKEN.value)
        names = await run_in_threadpool(read_names, self.spool.root)
        return self._page(pages.drop(token, names))

    async def _edit_page(self, request: Request) -> Response:
        if not (token := self._token(request)):
            raise RequestError(*Refusal.TOKEN.value)
        run = _run(request)
        source, job = await run_in_threadpool(actions.job_text_of, self.spool, run)
        return self._page(pages.edit(token, run, source, job))

    # -- what is done

    def _cancel_run(self, request: Request, _: Form) -> str:
        return commands.cancel(working_run(self.spool, _run(request)), self.spool)

    def _cancel_job(self, _: Request, form: Form) -> str:
        return commands.cancel(waiting_job(self.spool, form.texts.get("source", "")), self.spool)

    def _edit(self, request: Request, form: Form) -> str:
        job = form.texts.get("job", "")
        return actions.retry_edited(self.spool, _run(request), job, self.config.rules)

    def _drop(self, _: Request, form: Form) -> str:
        return actions.drop_form(self.spool, form.texts, self.config.rules)

    def _drop_files(self, _: Request, form: Form) -> str:
        return actions.drop_files(self.spool, form.files, self.config.rules)

    # -- what goes wrong

    async def _job_error(self, request: Request, form: Form, error: JobError) -> Response:
        """Show the form again, with what was typed and all mistakes."""
        problems, code = actions.in_words(error), HTTPStatus.UNPROCESSABLE_ENTITY
        if _wants_json(request):
            return _json({"problem": "\n".join(problems)}, code)
        token = self.access.form_token
        if "run" in request.path_params:
            job = form.texts.get("job", "")
            return self._page(pages.edit(token, _run(request), "", job, problems), code)
        names = await run_in_threadpool(read_names, self.spool.root)
        return self._page(pages.drop(token, names, form.texts, problems), code)

    def _failed(self, request: Request, error: Exception) -> Response:
        status = _status_of(error)
        words = disk.in_words(error) if isinstance(error, OSError) else str(error)
        headers = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else {}
        if status >= HTTPStatus.BAD_REQUEST and request.method == "POST":
            headers["Connection"] = "close"  # of a body that was not read
        if _wants_json(request):
            return _json({"problem": words}, status, headers)
        return self._page(pages.failed(status, words), status, headers)

    async def _http_error(self, _: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        text = pages.failed(error.status_code, error.detail)
        return self._page(text, error.status_code, dict(error.headers or {}))

    def _page(
        self, text: str, status: int = HTTPStatus.OK, headers: dict[str, str] | None = None
    ) -> Response:
        return HTMLResponse(text.encode("utf-8", "replace"), status, headers)


_LONGEST_SAID = 500  # characters; a browser takes 4,096 bytes
_FOLDERS = ("done", "failed", "working")


def _run(request: Request) -> str:
    return str(request.path_params["run"])


def _wants_json(request: Request) -> bool:
    return "application/json" in request.headers.get("accept", "")


def _json(value: object, status: int = HTTPStatus.OK, headers: Any = None) -> Response:
    data = json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    return Response(data, status, headers, "application/json")


def _status_of(error: Exception) -> int:
    """Return the HTTP status of an error that a request ended with."""
    if isinstance(error, OSError):
        return HTTPStatus.NOT_FOUND if error.errno in _NOT_THERE else HTTPStatus.SERVICE_UNAVAILABLE
    if isinstance(error, NotFoundError):
        return HTTPStatus.NOT_FOUND
    status: int = getattr(error, "http_status", HTTPStatus.CONFLICT)
    return status


_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL)
