"""The form by which a reader subscribes to the digest, and the pages behind the links in its mails."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse

from letheon.core.errors import LetheonError
from letheon.page.digest import plain_mail
from letheon.page.mail import sender, server_of_environment
from letheon.page.site import Here, show
from letheon.page.subscribers import Subscribers

PAGE = "subscribe.html.j2"
SUBJECT = "Confirm your subscription to Letheon's papers"
SENT = "Look into your mail: it holds a link to confirm. Nothing is sent before you do."
router = APIRouter(include_in_schema=False)


@router.get("/subscribe")
def subscribe_form(request: Request) -> HTMLResponse:
    """Show the form, or say that mail is not set up."""
    return show(request, PAGE, step="ask", ready=_ready(), notice="", fault="")


@router.post("/subscribe")
def subscribe(request: Request, site: Here, address: Annotated[str, Form(max_length=300)] = "") -> HTMLResponse:
    """Note an address and send it a link to confirm.

    The answer is the same whether or not the address is known, and whether or not it unsubscribed.
    """
    try:
        server = server_of_environment()
        if server is None:
            return show(request, PAGE, 503, step="ask", ready=False, notice="", fault="")
        subscribers = Subscribers(site.shelf)
        token = subscribers.ask(address, request.client.host if request.client else "")
        if token is not None:
            root = str(request.base_url).rstrip("/")
            text = (
                f"Somebody, perhaps you, asked for the digest of papers of {root}/\n\n"
                f"To confirm, open {root}/subscribe/confirm?key={token}\n\n"
                "If it was not you, do nothing: no digest is sent. Such a mail comes at most once in two days; "
                f"to get none at all, open {root}/unsubscribe?key={subscribers.token_to_leave(address)}\n"
            )
            try:
                server.send(plain_mail(SUBJECT, sender(), address.strip(), text))
            except BaseException:
                subscribers.forget(token)
                raise
    except LetheonError as error:
        return show(request, PAGE, 400, step="ask", ready=True, notice="", fault=str(error))
    return show(request, PAGE, step="done", ready=True, notice=SENT, fault="")


@router.get("/subscribe/confirm")
def confirm_form(request: Request, key: str = "") -> HTMLResponse:
    """Ask for the press of a button, since programs that scan mail open links too."""
    return show(request, PAGE, step="confirm", key=key, ready=True, notice="", fault="")


@router.post("/subscribe/confirm")
def confirm(request: Request, site: Here, key: Annotated[str, Form(max_length=200)] = "") -> HTMLResponse:
    """Subscribe the address that got the link."""
    done = Subscribers(site.shelf).confirm(key)
    return _answer(request, done, "You are subscribed.", "This link is no longer valid. Subscribe again.")


@router.get("/unsubscribe")
def leave_form(request: Request, key: str = "") -> HTMLResponse:
    """Ask for the press of a button."""
    return show(request, PAGE, step="leave", key=key, ready=True, notice="", fault="")


@router.post("/unsubscribe")
def leave(request: Request, site: Here, key: Annotated[str, Query(max_length=200)] = "") -> HTMLResponse:
    """Unsubscribe the address whose digests carry the link; a mail program may send this too (RFC 8058)."""
    return _answer(
        request, Subscribers(site.shelf).leave(key), "You get no further mail.", "This link is not known here."
    )


@router.post("/subscribe/again")
def come_back(request: Request, site: Here, key: Annotated[str, Form(max_length=200)] = "") -> HTMLResponse:
    """Subscribe an address again that unsubscribed; its own link shows that it is asked for by its owner."""
    done = Subscribers(site.shelf).come_back(key)
    return _answer(request, done, "You are subscribed again.", "This link is of no address that unsubscribed.")


def _answer(request: Request, done: bool, notice: str, fault: str) -> HTMLResponse:
    said = {"notice": notice, "fault": ""} if done else {"notice": "", "fault": fault}
    return show(request, PAGE, 200 if done else 404, step="done", ready=True, **said)


def _ready() -> bool:
    try:
        return server_of_environment() is not None
    except LetheonError:
        return False
