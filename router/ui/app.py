"""The browser's view of decision traces: a small web application over one ledger, for one machine.

Each route reads, calls one function that makes panels, and fills one template. Every page is complete without
JavaScript; htmx only saves reloads.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import parse_qs, urlencode

import anyio
import anyio.to_thread
from fastapi import FastAPI, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from icl_engine.errors import FewShotError
from icl_engine.task import Task, Value
from policies.errors import LedgerUnavailable, UnknownTrace, UnknownVersion
from policies.ledger import Ledger
from router.feedback import say_verdict
from router.granting import Kept
from router.trace import Trace
from router.trace_errors import TraceNotKept
from router.traces.fork import told
from router.traces.replay import replay_with
from router.traces.stored import StoredTrace, read_trace
from router.ui import what_if
from router.ui.charts import utility_lines
from router.ui.guard import HEADERS, SESSION_COOKIE, Guard, host_of, is_loopback
from router.ui.listing import KINDS, SORTS, VERDICTS, Filters, Listing, Page, Use
from router.ui.pages import STATIC, Frame, render, static
from router.ui.panels import trace_panels
from router.ui.policy_panels import policy_panels

RunArm = Callable[[Task, str, int], str]  # task, arm, seed; returns the trace id of the solve
_THEMES = ("system", "dark", "light")
_THEME_COOKIE = "ttt_router_theme"
_MAX_FORM_BYTES = 4096
_RUNS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Attached:
    """What the application shows, and what it may do.

    Args:
        run_arm: answers a task with an arm; None: no router is attached, and the buttons are disabled.
        solutions: what is right, per query, by the fingerprint of the task.
        any_host: answer under any host name, not only this machine's own.
        kept: says what is asked of the policies, and how far it is kept; None: the page does not say.
        tenant: whose traces are shown; None: everybody's.
        redact: applied to what is told of faults.
    """

    ledger: Ledger
    run_arm: RunArm | None = None
    solutions: Mapping[str, Sequence[Value | None]] | None = None
    any_host: bool = False
    kept: Callable[[], Kept] | None = None
    tenant: str | None = None
    redact: Callable[[str], str] = str


def make_app(attached: Attached) -> FastAPI:
    """Make the application.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as home, Ledger.open(home) as ledger:
        ...     make_app(Attached(ledger)).title
        'ttt-router'
    """
    app = FastAPI(title="ttt-router", docs_url=None, redoc_url=None, openapi_url=None)
    ui = _Ui(attached)
    app.middleware("http")(ui.guarded)
    app.add_api_route("/", ui.list_page, response_class=HTMLResponse)
    app.add_api_route("/policies", ui.policy_page, response_class=HTMLResponse)
    app.add_api_route("/traces/{trace_id}", ui.trace_page, response_class=HTMLResponse)
    app.add_api_route("/traces/{trace_id}/what-if", ui.what_if_part, response_class=HTMLResponse)
    app.add_api_route("/traces/{trace_id}/json", ui.trace_json)
    app.add_api_route("/traces/{trace_id}/run/{arm}", ui.run, methods=["POST"])
    app.add_api_route("/traces/{trace_id}/feedback", ui.feedback, methods=["POST"])
    app.add_api_route("/theme/{theme}", ui.choose_theme)
    app.add_api_route("/static/{name}", ui.static_file)
    app.add_exception_handler(FewShotError, ui.fault)
    return app


class _Ui:
    def __init__(self, attached: Attached) -> None:
        self._attached = attached
        self._ledger = attached.ledger
        self._listing = Listing(attached.ledger.database, attached.tenant)
        self._guard = Guard()
        self._runs = anyio.CapacityLimiter(_RUNS_AT_ONCE)  # threads of their own: they take long, and others read

    async def guarded(self, request: Request, follow: Callable[[Request], object]) -> Response:
        """Let in who asks for this machine by its own name, and put the headers on what is answered."""
        if not self._attached.any_host and not is_loopback(host_of(request.headers.get("host", ""))):
            return Response("This page answers under localhost only.", status_code=421, headers=HEADERS)
        session = request.cookies.get(SESSION_COOKIE) or self._guard.new_session()
        request.state.session = session
        response: Response = await follow(request)  # type: ignore[misc]
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        if SESSION_COOKIE not in request.cookies:
            response.set_cookie(SESSION_COOKIE, session, httponly=True, samesite="strict")
        return response

    def list_page(
        self,
        request: Request,
        arm: str = "",
        outcome: str = "",
        policy: str = "",
        kind: str = "",
        sort: str = "time",
        start: Annotated[int | None, Query(ge=0)] = None,
        download: bool = False,
    ) -> Response:
        """Show decisions, filtered and sorted."""
        filters = Filters(
            arm=arm or None,
            outcome=outcome if outcome in VERDICTS else None,
            policy=policy or None,
            kind=kind if kind in KINDS else None,
        )
        sort = sort if sort in SORTS else "time"
        page = self._page(filters, sort, start)
        chosen = {"arm": arm, "outcome": outcome, "policy": policy, "kind": kind, "sort": sort}
        arms, policies = self._listing.choices()
        options = {"arm": arms, "outcome": VERDICTS, "policy": policies, "kind": KINDS}
        return self._answer(
            request,
            "list.html",
            {
                "page": page,
                "chosen": chosen,
                "options": options,
                "next": None if page.next is None else urlencode({**_given(chosen), "start": page.next}),
                "first": None if start is None else urlencode(_given(chosen)),
            },
            download="traces" if download else None,
        )

    def trace_page(
        self,
        request: Request,
        trace_id: str,
        price: Annotated[float | None, Query(ge=0, le=1e6)] = None,
        policy: str = "",
        download: bool = False,
    ) -> Response:
        """Show one trace; and what the version `policy` would have decided."""
        self._check_own(trace_id)
        stored = read_trace(self._ledger, trace_id)
        trace = stored.trace
        solutions = (self._attached.solutions or {}).get(trace.task.fingerprint, ())
        panels = trace_panels(stored, solutions)
        content = {"trace": trace, "panels": panels, "can_run": self._attached.run_arm is not None}
        content |= _what_if(trace, price)
        content |= {"versions": self._ledger.policy_versions.all(), "fork": self._forked(stored, policy)}
        content |= {"uses": self._uses(trace)}
        return self._answer(request, "trace.html", content, download=f"trace-{trace_id[:12]}" if download else None)

    def _forked(self, stored: StoredTrace, version_id: str) -> tuple[str, str] | None:
        """Return a version and what it would have decided; None where none is asked for."""
        if not version_id:
            return None
        from router.learned_policies import policy_of  # with the gain models

        try:
            policy = policy_of(self._ledger, version_id)
        except UnknownVersion:  # which names the ledger's place, and that is not for everybody here
            return version_id, "There is no policy version of this id in the ledger."
        except FewShotError as error:
            return version_id, self._attached.redact(str(error))
        return version_id, told(replay_with(policy, stored.decision), stored)

    def _uses(self, trace: Trace) -> tuple[Use, ...]:
        adapter = trace.adapter
        return () if adapter is None else self._listing.uses(trace.task.id, adapter.key)

    def what_if_part(
        self, request: Request, trace_id: str, price: Annotated[float, Query(ge=0, le=1e6)] = 0.0
    ) -> Response:
        """Show what would have been decided at another price: the part of the trace's page that changes."""
        trace = self._trace(trace_id)
        return self._answer(request, "what_if.html", {"trace": trace, **_what_if(trace, price)})

    def trace_json(self, trace_id: str) -> Response:
        """Give the trace as the ledger holds it."""
        self._check_own(trace_id)
        return Response(self._ledger.trace(trace_id).document, media_type="application/json")

    def policy_page(self, request: Request, download: bool = False) -> Response:
        """Show the policies."""
        panels = policy_panels(self._ledger.policy_versions, self._listing.history(), self._listing.decided())
        kept = None if self._attached.kept is None else self._attached.kept()
        content = {"panels": panels, "kept": kept}
        return self._answer(request, "policies.html", content, download="policies" if download else None)

    async def run(self, request: Request, trace_id: str, arm: str) -> Response:
        """Answer the task of a trace with another arm, and show that trace."""
        run_arm = self._attached.run_arm
        await self._require_meant(request)
        if run_arm is None:
            return _refused("No router is attached: start with `ttt-router ui`, not read-only.", 409)
        from starlette.concurrency import run_in_threadpool

        trace = await run_in_threadpool(self._trace, trace_id)
        made = await anyio.to_thread.run_sync(run_arm, trace.task, arm, trace.seed, limiter=self._runs)
        return RedirectResponse(f"/traces/{made}", status_code=303)

    async def feedback(self, request: Request, trace_id: str) -> Response:
        """Write down what somebody says of an answer; who says otherwise later corrects it."""
        form = await self._require_meant(request)
        value = {"right": 1.0, "wrong": 0.0}.get(form.get("answer", ""))
        if value is None:
            return _refused("Say right or wrong.", 422)
        from starlette.concurrency import run_in_threadpool

        said = functools.partial(say_verdict, source="user", reason="said otherwise on the page")
        await run_in_threadpool(self._check_own, trace_id)
        await run_in_threadpool(said, self._ledger, trace_id, value)
        return RedirectResponse(f"/traces/{trace_id}", status_code=303)

    def choose_theme(self, request: Request, theme: str, back: str = "/") -> Response:
        """Keep a theme and go back."""
        here = back if back.startswith("/") and not back.startswith(("//", "/\\")) else "/"
        response = RedirectResponse(here, status_code=303)
        if theme in _THEMES:
            response.set_cookie(_THEME_COOKIE, theme, samesite="strict", max_age=365 * 24 * 3600)
        return response

    def static_file(self, name: str) -> Response:
        """Give style sheet and script."""
        if name not in STATIC:
            return Response("no such file", status_code=404)
        return Response(static(name), media_type=STATIC[name], headers={"Cache-Control": "max-age=3600"})

    async def fault(self, request: Request, error: Exception) -> Response:
        """Say what went wrong, and what would do."""
        code = (
            404
            if isinstance(error, UnknownTrace | TraceNotKept)
            else 503
            if isinstance(error, LedgerUnavailable) or hasattr(error, "retry_after_s")
            else 409
        )
        message = self._attached.redact(str(error))
        return HTMLResponse(render("fault.html", _frame(request, ""), {"message": message}), status_code=code)

    def _page(self, filters: Filters, sort: str, start: int | None) -> Page:
        if sort == "regret":
            return self._listing.by_regret(filters, start=start or 0)
        return self._listing.newest(filters, before=start)

    def _trace(self, trace_id: str) -> Trace:
        self._check_own(trace_id)
        return read_trace(self._ledger, trace_id).trace

    def _check_own(self, trace_id: str) -> None:
        tenant = self._attached.tenant
        if tenant is not None and self._ledger.decision(trace_id).tenant != tenant:
            raise UnknownTrace(trace_id, self._ledger.location)

    def _answer(
        self, request: Request, template: str, content: Mapping[str, object], *, download: str | None = None
    ) -> Response:
        token = self._guard.token(request.state.session)
        frame = _frame(request, token, offline=download is not None)
        response = HTMLResponse(render(template, frame, content))
        if download is not None:
            response.headers["Content-Disposition"] = f'attachment; filename="{_file_name(download)}.html"'
        return response

    async def _require_meant(self, request: Request) -> dict[str, str]:
        body = await request.body() if int(request.headers.get("content-length", 0)) <= _MAX_FORM_BYTES else b""
        form = {name: values[0] for name, values in parse_qs(body.decode("ascii", "replace")).items()}
        if not self._guard.meant(request.cookies.get(SESSION_COOKIE), form.get("token"), request.headers):
            raise NotMeant
        return form


class NotMeant(FewShotError):
    """A post that did not come from one of our own pages."""

    def __init__(self) -> None:
        super().__init__("token: this form is not from a page of this server. Open the page again and press once more.")


def _what_if(trace: Trace, price: float | None) -> dict[str, object]:
    decision = trace.decision
    lines = what_if.lines(decision)
    decided = decision.price or 0.0
    asked = decided if price is None else price
    marks = [(asked, "asked"), (decided, "decided")]
    marks += [] if decision.flip_price is None or decision.flip_price < 0 else [(decision.flip_price, "flips")]
    said = f"Utility of each arm against the price; decided at {decided:g}, asked at {asked:g}"
    top = max(1.0, *(2 * at for at, _ in marks))
    return {
        "arms_at": what_if.at_price(decision, asked),
        "asked": asked,
        "decided": decided,
        "slider": {"max": f"{top:.3g}", "step": f"{top / 200:.3g}"},
        "lines": utility_lines(lines, decided, marks, said) if lines else None,
    }


def _frame(request: Request, token: str, *, offline: bool = False) -> Frame:
    theme = request.cookies.get(_THEME_COOKIE, "system")
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return Frame(theme if theme in _THEMES else "system", here, token, offline)


def _given(chosen: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in chosen.items() if value}


def _file_name(text: str) -> str:
    return "".join(char if char.isascii() and (char.isalnum() or char in "-_") else "_" for char in text)


def _refused(message: str, code: int) -> Response:
    return JSONResponse({"error": message}, status_code=code)
