"""The digest, the subscriptions and the feeds: they hold what is new, and nobody is subscribed unasked."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
from fastapi.testclient import TestClient

from letheon.core.errors import InputError, LetheonError
from letheon.jobs.page import DigestJob
from letheon.page import digest as digest_module
from letheon.page.app import create_app
from letheon.page.digest import digest_mail, make_digest, parse_since
from letheon.page.entries import Entry
from letheon.page.mail import Server, check_address
from letheon.page.schedule import schedule
from letheon.page.shelf import Shelf
from letheon.page.subscribers import Subscribers, network
from tests.page.smtp import mail_server

NOW = datetime.now(UTC)
WEEK = NOW - timedelta(days=7)
HOSTILE = "<script>alert(1)</script>\r\nBcc: everybody@example.org\u202e {{ 7*7 }}"
PAPER = Entry(
    key="nova", title=f"Nova {HOSTILE}", author_count=3, date="2026-03-04", abstract=f"About {HOSTILE}. " * 40
)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "shelf.db")


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, str]]:
    stored = {"gu": {"verdict": "fails", "date": "2020-01-01T00:00:00Z"}}
    monkeypatch.setattr(digest_module, "read_results", lambda: stored)
    return stored


def test_a_digest_holds_what_is_new(shelf: Shelf, results: dict[str, dict[str, str]]) -> None:
    first = make_digest(shelf, WEEK, NOW)
    assert (first.papers, first.verdicts) == ((), ()), "the papers that were there at the beginning are not new"
    shelf.add([PAPER])
    results["gu"] = {"verdict": "holds", "date": NOW.strftime("%Y-%m-%dT%H:%M:%SZ")}
    results["melu"] = {"verdict": "holds", "date": (NOW - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")}
    second = make_digest(shelf, WEEK, NOW)
    assert [entry.key for entry in second.papers] == ["nova"]
    assert [(c.entry.key, c.before, c.after) for c in second.verdicts] == [
        ("gu", "fails", "holds"),
        ("melu", "", "holds"),
    ]
    assert second.subject == "Letheon papers: 1 new paper, 2 new or changed verdicts"
    again = make_digest(shelf, WEEK, NOW)
    assert again == second
    later = make_digest(shelf, NOW + timedelta(hours=1), NOW + timedelta(hours=2))
    assert not later.papers
    assert not later.verdicts


def test_the_mail_is_text_and_html_and_nothing_hostile_acts(shelf: Shelf, results: dict[str, dict[str, str]]) -> None:
    make_digest(shelf, WEEK, NOW)
    shelf.add([PAPER])
    mail = digest_mail(
        make_digest(shelf, WEEK, NOW), "a@example.org", "b@example.org", "http://h", "http://h/leave?key=K"
    )
    read = message_from_bytes(mail.as_bytes(), policy=policy.default)
    assert isinstance(read, EmailMessage)
    assert set(read.keys()) == {
        *("Subject", "From", "To", "Date", "Message-ID", "List-Unsubscribe", "MIME-Version", "Content-Type")
    }
    assert read["List-Unsubscribe"] == "<http://h/leave?key=K>"
    plain, html = read.get_body(("plain",)), read.get_body(("html",))
    assert plain is not None
    assert html is not None
    for text in (plain.get_content(), html.get_content()):
        assert "Nova" in text
        assert "http://h/papers/nova" in text
        assert "http://h/leave?key=K" in text
        assert "\u202e" not in text
    assert "<script" not in html.get_content()
    assert "49" not in html.get_content()


@pytest.mark.parametrize(
    "address",
    [
        "",
        "a",
        "a@",
        "@b",
        "a b@c.de",
        "a@b\r\nBcc: c@d.e",
        "a@b\nX: y",
        "A <a@b.c>",
        "a@b,c@d",
        '"a b"@c.d',
        "a@b.c\0",
        "a@" + "b" * 300,
    ],
)
def test_no_header_comes_in_through_an_address(address: str, shelf: Shelf) -> None:
    with pytest.raises(InputError, match="no mail address"):
        check_address(address)
    with pytest.raises(InputError, match="no mail address"):
        Subscribers(shelf).ask(address)


def test_times() -> None:
    assert parse_since("7d", NOW) == WEEK
    assert parse_since("2026-03-01", NOW) == datetime(2026, 3, 1, tzinfo=UTC)
    for wrong in ("soon", "9999x", "-1d", "2999-01-01"):
        with pytest.raises(InputError):
            parse_since(wrong, NOW)


def test_passwords_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server.parse("smtp://me:s3%3Acret@127.0.0.1:9")
    assert (server.user, server.password, server.port) == ("me", "s3:cret", 9)
    assert "cret" not in repr(server)
    with pytest.raises(LetheonError, match=r"127.0.0.1:9 could not be used") as caught:
        server.send(EmailMessage())
    assert "cret" not in str(caught.value)
    with pytest.raises(InputError) as wrong:
        Server.parse("http://me:secret@host")
    assert "secret" not in str(wrong.value)
    monkeypatch.setenv("LETHEON_SMTP_PASSWORD", "from the environment")
    assert Server.parse("smtps://me@host") == Server("host", 465, True, "me", "from the environment")
    printed = schedule(["letheon", "page", "digest", "--smtp", "smtp://me:p%40ss@h:1", "--out", "a 100%.eml"])
    assert "p%40ss" not in printed
    assert r"smtp://me@h:1 --out 'a 100\%.eml'" in printed
    assert "ExecStart=letheon page digest --smtp smtp://me@h:1 --out 'a 100%%.eml'" in printed
    assert "OnCalendar=" in printed
    for server in ("SMTP://me:secret@h:1", "smtps://me:pa@secret@h", "smtp://me:x@[::1]:25/secret", "smtp://:secret@h"):
        assert "secret" not in schedule(["--smtp", server])


def test_double_opt_in(shelf: Shelf) -> None:
    subscribers = Subscribers(shelf)
    token = subscribers.ask("Me@Example.org", now=NOW)
    assert token
    assert subscribers.ask("me@example.org", now=NOW) is None, "no second mail at once"
    assert subscribers.addresses() == []
    assert not subscribers.confirm("guess", NOW)
    assert not subscribers.confirm("", NOW)
    assert not subscribers.confirm(token, NOW + timedelta(days=3)), "it has expired"
    assert subscribers.confirm(token, NOW)
    assert not subscribers.confirm(token, NOW), "it works once"
    assert subscribers.addresses() == ["me@example.org"]
    leave = subscribers.token_to_leave("me@example.org")
    assert token not in str([tuple(row) for row in shelf.rows("SELECT * FROM subscribers")])
    assert subscribers.leave(leave)
    assert subscribers.state("me@example.org") == "left"
    assert subscribers.ask("me@example.org", now=NOW + timedelta(days=30)) is None, "it asked to be left alone"
    assert not subscribers.come_back("guess")
    assert subscribers.come_back(leave)
    assert not subscribers.come_back(leave)
    assert subscribers.addresses() == ["me@example.org"]


def test_an_address_gets_one_mail_in_two_days(shelf: Shelf) -> None:
    subscribers = Subscribers(shelf)
    times = [NOW + timedelta(minutes=5 * i) for i in range(24 * 12 * 2)]
    assert sum(subscribers.ask("victim@example.org", now=time) is not None for time in times) == 1
    assert subscribers.ask("victim@example.org", now=times[-1] + timedelta(hours=1)), "the link has expired"
    subscribers.delete_expired(times[-1] + timedelta(days=3))
    for table in ("subscribers", "subscription_asks"):
        assert shelf.rows(f"SELECT * FROM {table}") == [], "who did not confirm is deleted"


def test_one_client_cannot_keep_others_from_subscribing(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    subscribers = Subscribers(shelf)
    for i in range(20):
        assert subscribers.ask(f"v{i}@example.org", f"2001:db8::{i}", NOW)
    for address in ("v0@example.org", "v20@example.org"):  # the answer does not tell which is known
        with pytest.raises(InputError, match="many addresses"):
            subscribers.ask(address, "2001:db8::ffff", NOW)
    assert subscribers.ask("me@example.org", "192.0.2.1", NOW)
    assert subscribers.ask("v20@example.org", "2001:db8::1", NOW + timedelta(hours=1))
    assert not [row for row in shelf.rows("SELECT * FROM subscription_asks") if "2001" in str(tuple(row))]
    monkeypatch.setattr("letheon.page.subscribers.MOST_OF_ALL", 1)
    with pytest.raises(InputError, match="many addresses"):
        subscribers.ask("last@example.org", "192.0.2.2", NOW + timedelta(hours=1))
    assert network("::ffff:192.0.2.1") == network("192.0.2.1") != network("192.0.2.2")


def test_a_mail_that_could_not_be_sent_is_forgotten(shelf: Shelf) -> None:
    subscribers = Subscribers(shelf)
    leave = subscribers.token_to_leave("given@example.org")
    for address in ("given@example.org", "new@example.org"):
        token = subscribers.ask(address, now=NOW)
        assert token
        subscribers.forget(token)
        assert not subscribers.confirm(token, NOW)
        assert subscribers.ask(address, now=NOW)
    assert subscribers.leave(leave), "the link in a digest that was sent stays valid"


def form(client: TestClient, path: str, **fields: str) -> tuple[int, str]:
    """Fill in the form of a page and send it."""
    page = client.get(path)
    token = re.search(r'name="token" value="([^"]+)"', page.text)
    assert token, page.text
    answer = client.post(path.partition("?")[0], data={"token": token[1], **fields})
    return answer.status_code, answer.text


def test_subscribing_on_the_page(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    client = TestClient(create_app(shelf), base_url="http://127.0.0.1:8700")
    monkeypatch.delenv("LETHEON_SMTP", raising=False)
    assert "Mail is not set up" in client.get("/subscribe").text
    assert client.post("/subscribe", data={"address": "me@example.org"}).status_code == 403, "no token of the form"
    with mail_server() as (address, mails):
        monkeypatch.setenv("LETHEON_SMTP", address)
        assert form(client, "/subscribe", address="me@example.org\r\nBcc: x@y.z")[0] == 400
        status, said = form(client, "/subscribe", address="me@example.org")
        assert status == 200
        assert "Look into your mail" in said
        assert form(client, "/subscribe", address="me@example.org")[1] == said, "it does not say who is known"
        (mail,) = mails
        link = re.search(r"http://127.0.0.1:8700(/subscribe/confirm\?key=(\S+))", mail.get_content())
        assert link
        assert Subscribers(shelf).addresses() == [], "opening the link is not enough"
        assert form(client, link[1], key="wrong")[0] == 404
        assert form(client, link[1], key=link[2])[0] == 200
        assert Subscribers(shelf).addresses() == ["me@example.org"]
    leave = Subscribers(shelf).token_to_leave("me@example.org")
    assert 'action="/unsubscribe?key=' in client.get(f"/unsubscribe?key={leave}").text
    assert Subscribers(shelf).addresses() == ["me@example.org"], "opening the link is not enough"
    assert client.post(f"/unsubscribe?key={leave}").status_code == 200
    assert Subscribers(shelf).addresses() == []
    monkeypatch.setenv("LETHEON_SMTP", "smtp://127.0.0.1:9")
    for _ in range(2):  # the first failure leaves no trace
        status, said = form(client, "/subscribe", address="you@example.org")
        assert status == 400
        assert "could not be used" in said
    assert Subscribers(shelf).state("you@example.org") == "unknown"
    page = client.get(f"/unsubscribe?key={leave}").text
    token = re.search(r'name="token" value="([^"]+)"', page)
    assert token
    assert client.post("/subscribe/again", data={"token": token[1], "key": leave}).status_code == 200
    assert Subscribers(shelf).addresses() == ["me@example.org"]


def test_a_mail_program_unsubscribes_with_one_click(shelf: Shelf) -> None:
    subscribers = Subscribers(shelf)
    for name in ("me", "you"):
        token = subscribers.ask(f"{name}@example.org")
        assert token
        assert subscribers.confirm(token)
    with mail_server() as (address, mails):
        DigestJob(shelf.path, "7d", smtp=address, site="https://papers.example.org/").work()
    assert [mail["To"] for mail in mails] == ["me@example.org", "you@example.org"]
    (link,) = re.findall(r"^<(https://papers\.example\.org/unsubscribe\?key=\S+)>$", mails[0]["List-Unsubscribe"])
    assert mails[0]["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    click = {"List-Unsubscribe": "One-Click"}
    path = link.removeprefix("https://papers.example.org")
    stranger = TestClient(create_app(shelf), base_url="http://127.0.0.1:8700", follow_redirects=False)
    assert stranger.get(path).status_code == 200
    assert subscribers.state("me@example.org") == "subscribed", "a program that opens links does nothing"
    assert stranger.post("/unsubscribe?key=guess", data=click).status_code == 404
    assert stranger.post("/unsubscribe", data={**click, "key": path.partition("=")[2]}).status_code == 404
    browser = {"Origin": "https://papers.example.org"}  # the button, where a web server passes the page on
    for body in ({"data": click}, {"files": {"List-Unsubscribe": (None, "One-Click")}}, {"headers": browser}):
        assert TestClient(stranger.app, base_url="http://127.0.0.1:8700").post(path, **body).status_code == 200
    assert subscribers.addresses() == ["you@example.org"]
    with mail_server() as (address, mails):
        sent = DigestJob(shelf.path, "7d", smtp=address).work()["sent"]
    assert sent == ["you@example.org"]
    assert mails[0]["List-Unsubscribe"].startswith("<http://127.0.0.1:8457/unsubscribe?key=")
    assert "List-Unsubscribe-Post" not in mails[0], "it needs https"
