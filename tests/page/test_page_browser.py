"""The site in a real browser: each task to its end, by keyboard, on a phone, in the dark, on paper, for everybody."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from letheon.page.mail import SERVER
from letheon.papers.catalogue import paper
from tests.page.browser import AXE, BROWSER, chromium, site
from tests.page.conftest import HOSTILE
from tests.page.smtp import mail_server
from tests.page.test_reading import BODY, HEAD, entry

pytestmark = [
    pytest.mark.skipif(not BROWSER, reason="no Chromium on PATH: apt-get install chromium"),
    pytest.mark.xdist_group("browser"),
]
PAGES = [
    "/",
    "/search?q=memory",
    "/papers/gu",
    "/map",
    "/runs",
    "/import",
    "/studio",
    "/studio/request",
    "/studio/chat",
]
PAGES += ["/subscribe", "/subscribe/confirm?key=x"]
ROWS = '{"question": "Where does Ann live?", "answer": "In Oslo."}\n'


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("site")
    (folder / "runs" / "first").mkdir(parents=True)
    (folder / "runs" / "first" / "config.json").write_text('{"config": {"model": "tiny"}}')
    with site(folder, [folder / "runs"]) as (served, _):
        yield served


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """A page whose browser reports no error and breaks no content policy."""
    opened = browser.new_page(base_url=address)
    opened.set_default_timeout(15_000)
    faults: list[str] = []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    refused = "status of 400"  # a form that is refused on purpose
    opened.on(
        "console", lambda said: faults.append(said.text) if said.type == "error" and refused not in said.text else 0
    )
    opened.on("request", lambda sent: None if sent.url.startswith((address, "data:")) else faults.append(sent.url))
    yield opened
    opened.close()
    assert not faults


def test_list_filter_and_search(page: Any) -> None:
    page.goto("/")
    total = page.locator("article.card").count()
    assert total > 10
    wings = page.locator("#by-wing option").all_inner_texts()
    with page.expect_response(lambda answer: "verdict=fails" in answer.url):
        page.focus("#by-verdict")
        page.select_option("#by-verdict", "fails")
    page.wait_for_url("**verdict=fails**")
    page.locator(".count a").wait_for()
    shown = page.locator("article.card")
    assert 0 < shown.count() < total
    assert shown.locator(".tag.bad").count() == shown.count()
    assert page.locator("#by-wing option").all_inner_texts() != wings, "the counts are those beside the other filters"
    page.wait_for_function("document.activeElement.id === 'by-verdict'")  # the keyboard stays where it was
    assert page.locator("#by-verdict").input_value() == "fails"
    page.goto("/search")
    page.fill("#q", "secondry sinks")
    page.get_by_role("link", name=re.compile("Secondary Attention Sinks")).first.wait_for()


def test_a_paper_is_run_to_its_end(page: Any) -> None:
    page.goto("/")
    page.get_by_role("link", name=paper("gu").title).click()
    page.get_by_role("button", name="Run", exact=True).click()
    page.wait_for_url("**/runs/*")
    page.get_by_role("heading", name="This run").wait_for()
    assert page.get_by_role("status").first.inner_text() == "done"
    assert page.get_by_role("heading", name="On record").count() == 1


def test_a_page_is_imported_and_nothing_in_it_acts(page: Any, tmp_path: Path) -> None:
    file = tmp_path / "saved.txt"
    hostile = HOSTILE[0] + ' <img src=x onerror="document.title=1">'
    text = (
        HEAD
        + entry(paper("gu").title)
        + entry(f"NOVA: {hostile}", hostile + BODY, day="Mar 4 7")
        + entry("X Y", day="Mar 99")
    )
    file.write_text(text)
    for states in (
        "1 known, 1 new, 0 changed, 0 unchanged, 1 broken",
        "1 known, 0 new, 0 changed, 1 unchanged, 1 broken",
    ):
        page.goto("/import")
        page.set_input_files("#file", file)
        page.get_by_role("button", name="Import").click()
        assert states in page.get_by_role("status").inner_text()
    page.get_by_role("link", name=re.compile("NOVA")).click()
    assert HOSTILE[0] in page.locator("h1").inner_text()
    assert page.title() not in ("acted", "1")
    assert page.locator("main img, main script").count() == 0


def test_subscribe_and_confirm(page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    page.goto("/subscribe")
    assert "Mail is not set up" in page.inner_text("main")
    with mail_server() as (server, mails):
        monkeypatch.setenv(SERVER, server)
        page.reload()
        page.fill("#address", "me@example.org")
        page.get_by_role("button", name="Subscribe").click()
        page.get_by_text("Look into your mail").wait_for()
        (mail,) = mails
        page.goto(re.search(r"http://\S+", mail.get_content().split("To confirm")[1])[0])  # type: ignore[index]
        page.get_by_role("button", name="Confirm").click()
        page.get_by_text("You are subscribed").wait_for()


def test_a_deletion_is_requested_watched_and_read(page: Any) -> None:
    page.goto("/studio/request")
    page.set_input_files(
        "#forget", {"name": "bad.jsonl", "mimeType": "text/plain", "buffer": b'{"question": "Who?"}\n'}
    )
    with page.expect_response(lambda answer: answer.request.method == "POST") as refused:
        page.get_by_role("button", name="Request").click()
    assert refused.value.status == 400
    assert "row 1" in page.get_by_role("alert").inner_text()
    page.set_input_files("#forget", {"name": "rows.jsonl", "mimeType": "text/plain", "buffer": ROWS.encode()})
    page.select_option("#model", "tiny")
    page.get_by_role("button", name="Request").click()
    page.get_by_role("link", name="Read its audit").click()
    page.wait_for_url("**/report")
    assert page.title().startswith("Passed")


def test_by_keyboard_alone(page: Any) -> None:
    page.goto("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "q":
            break
    page.keyboard.type("secondary sinks")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search?q=secondary+sinks")
    for _ in range(30):
        page.keyboard.press("Tab")
        if "Secondary" in page.evaluate("document.activeElement.textContent"):
            break
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none", "the focus is seen"
    page.keyboard.press("Enter")
    page.wait_for_url("**/papers/secondary-sinks")


def test_on_a_phone_in_the_dark_and_on_paper(browser: Any, address: str) -> None:
    phone = browser.new_page(base_url=address, viewport={"width": 360, "height": 640}, color_scheme="dark")
    for path in PAGES:
        phone.goto(path)
        assert phone.evaluate("document.documentElement.scrollWidth") <= 360, f"{path} scrolls sideways"
        red = phone.evaluate("getComputedStyle(document.body).backgroundColor").split("(")[1].split(",")[0]
        assert int(red) < 80, f"{path} is bright in the dark"
    phone.goto("/papers/gu")
    phone.emulate_media(media="print")
    assert not phone.locator("nav").first.is_visible()
    assert not phone.get_by_role("button").first.is_visible()
    assert phone.locator("h1").is_visible()
    assert phone.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    phone.close()


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_axe_has_no_serious_finding(browser: Any, address: str, scheme: str) -> None:
    context = browser.new_context(base_url=address, color_scheme=scheme, bypass_csp=True)
    opened = context.new_page()
    serious = []
    for path in PAGES:
        opened.goto(path)
        opened.add_script_tag(path=AXE)
        results = opened.evaluate("axe.run({resultTypes: ['violations']})")
        for found in results["violations"]:
            if found["impact"] in ("serious", "critical"):
                serious.append((path, found["id"], [node["target"] for node in found["nodes"]][:3]))
    context.close()
    assert not serious


@pytest.mark.slow
def test_a_real_paper_is_run_to_its_end(browser: Any, tmp_path: Path) -> None:
    with site(tmp_path, [], stub=False) as (served, _):
        opened = browser.new_page(base_url=served)
        opened.goto("/papers/fpf")
        opened.fill("input[name=seeds]", "2")
        opened.get_by_role("button", name="Run", exact=True).click()
        opened.get_by_role("heading", name="This run").wait_for(timeout=280_000)
        opened.close()
