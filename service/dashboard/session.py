"""Signing in with an API key, signing out, and the choice of a theme: what a browser keeps in cookies."""

from typing import Annotated
from urllib.parse import parse_qs, quote

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.responses import RedirectResponse, Response

from service.auth import COOKIE, caller_of, refuse_other_sites
from service.dashboard.render import THEME_COOKIE, THEMES, page
from service.keys import caller_with

YEAR = 365 * 86_400
MAX_FORM = 8192


def require_page(request: Request) -> None:
    """FastAPI dependency of pages: sends a browser without a key to the sign-in page."""
    if caller_of(request) is None:
        wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        raise HTTPException(303, headers={"location": f"/login?next={quote(wanted)}"})


def session_pages() -> APIRouter:
    router = APIRouter(dependencies=[Depends(refuse_other_sites)])

    @router.get("/login")
    def sign_in_page(request: Request, wanted: Annotated[str, Query(alias="next")] = "/") -> Response:
        if caller_of(request) is not None:
            return RedirectResponse(_local(wanted), 303)
        return page(request, "login.html", wanted=_local(wanted), refused=False)

    @router.post("/login")
    async def sign_in(request: Request) -> Response:
        form = await _form(request)
        key, wanted = form.get("key", "").strip(), _local(form.get("next", "/"))
        if caller_with(request.app.state.backend.catalog, key) is None:
            return page(request, "login.html", 401, wanted=wanted, refused=True)
        answer = RedirectResponse(wanted, 303)
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, key, max_age=YEAR, httponly=True, samesite="strict", secure=secure)
        return answer

    @router.post("/logout")
    def sign_out() -> Response:
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer

    @router.post("/theme")
    async def choose_theme(request: Request) -> Response:
        form = await _form(request)
        answer = RedirectResponse(_local(form.get("next", "/")), 303)
        if form.get("theme") in THEMES:
            answer.set_cookie(THEME_COOKIE, form["theme"], max_age=YEAR, httponly=True, samesite="strict")
        return answer

    return router


def _local(address: str) -> str:
    """`address` if it is a path of this server, else the first page: a link must not lead through here to elsewhere."""
    strange = "\\" in address or any(ord(letter) < 0x21 for letter in address)
    return address if address.startswith("/") and not address.startswith("//") and not strange else "/"


async def _form(request: Request) -> dict[str, str]:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM:
            raise HTTPException(413, "The form is too large.")
    return {name: values[-1] for name, values in parse_qs(body.decode(errors="replace")).items()}
