"""The page in a real browser: hostile text does not act, a planted script does not run, the search searches."""

from __future__ import annotations

import re
import shutil
from html import escape
from pathlib import Path

import pytest
from tests.audit.specimen import evidence, specimen

from letheon.audit.page.page import render_audit
from letheon.audit.record.evidence import Answer
from letheon.audit.record.record import Evidence
from letheon.report.pdf import BROWSERS, browse, write_pdf

BROWSER = next(filter(None, map(shutil.which, BROWSERS)), "")
pytestmark = pytest.mark.skipif(not BROWSER, reason=f"none of {', '.join(BROWSERS)} is on PATH")

ACT = "document.title='acted'"
HOSTILE = [
    f"<script>{ACT}</script>",
    f'<img src=x onerror="{ACT}">',
    f"</style><script>{ACT}</script>",
    f"</script><script>{ACT}</script>",
    f"</title></textarea><svg onload={ACT}>",
    f'"\' onmouseover={ACT} autofocus onfocus={ACT} x="',
    f"javascript:{ACT}",
    f"<iframe srcdoc=\"<script>parent.{ACT}</script>\"></iframe><base href='//nowhere.invalid/'>",
    f"\x00\x1b[31m\u202e<b>\u2066\u2028{ACT}//\ufeff",
    f"<!--><script>{ACT}</script-->",
    f"{{{{ 7*7 }}}}{{% raw %}}<svg><style><img src=x onerror={ACT}>",
]


def hostile() -> str:
    """A page whose answers, ids, names and settings are hostile."""
    answers = [
        Answer(
            id=text, subset="forget", prompt=text, expected=text, before=text, after=text, kind="fluent and different"
        )
        for text in HOSTILE
    ]
    found = evidence()
    record = specimen(found.model_copy(update={"answers": answers}), settings={"note": HOSTILE}, warnings=HOSTILE)
    named = [model.model_copy(update={"name": " ".join(HOSTILE)}) for model in record.models]
    asked = record.request.model_copy(update={"id": " ".join(HOSTILE), "reason": HOSTILE[0]})
    return render_audit(record.model_copy(update={"models": named, "request": asked}))


def dom(page: str, folder: Path, fragment: str = "") -> str:
    """What the browser makes of a page, after its scripts ran."""
    path = folder / "page.html"
    path.write_text(page, encoding="utf-8")

    return browse(BROWSER, path.as_uri() + fragment, "--dump-dom", "--virtual-time-budget=2000").decode()


def shown(text: str) -> list[str]:
    """The rows of the table that are not hidden."""
    body = text[text.index('<table class="rows"') :]
    rows = re.findall(r"<tr data-subset[^>]*>", body)
    assert rows
    return [row for row in rows if "hidden" not in row]


def test_nothing_of_a_hostile_record_acts(tmp_path: Path) -> None:
    text = dom(hostile(), tmp_path)
    title = re.search(r"<title>(.*?)</title>", text, flags=re.DOTALL)
    assert title
    assert title[1].startswith("Passed")
    assert text.count("<script") == 1
    assert not re.search(r"<(img|iframe|base|b>\u2066)", text)
    assert f"of {len(HOSTILE)} shown" in text, "the page's own script ran"


def test_a_script_that_got_into_the_page_is_not_run(tmp_path: Path) -> None:
    planted = f'<script>{ACT}</script><img src=x onerror="{ACT}"><p onclick="{ACT}">'
    page = hostile().replace("<main>", f"<main>{planted}", 1)
    assert "<title>acted" not in dom(page, tmp_path)
    unguarded = re.sub(r"<meta http-equiv[^>]*>", "", page)
    assert "<title>acted" in dom(unguarded, tmp_path), "without the page's policy it would have run"


@pytest.mark.parametrize(
    ("fragment", "count"),
    [
        ("", 11),
        ("#search=OTTER", 6),
        ("#search=ilse%20quarrant", 5),
        ("#show=attention", 3),
        ("#show=retain&search=nothing", 0),
    ],
)
def test_the_table_is_searched(tmp_path: Path, fragment: str, count: int) -> None:
    text = dom(render_audit(specimen()), tmp_path, fragment)
    assert len(shown(text)) == count
    assert f"{count} of 11 shown" in text


@pytest.mark.parametrize("width", [320, 390])
def test_nothing_is_wider_than_a_phone(tmp_path: Path, width: int) -> None:
    page = escape(re.sub(r"<meta http-equiv[^>]*>", "", render_audit(specimen())), quote=True)
    inner = "document.querySelector('iframe').contentWindow"
    wider = f"{inner}.document.documentElement.scrollWidth + ' of ' + {inner}.innerWidth"
    frame = f'<title></title><iframe width="{width}" height="800" style="border:0" srcdoc="{page}" onload="measure()">'
    text = dom(f"<script>function measure() {{ document.title = {wider} }}</script>{frame}</iframe>", tmp_path)
    found = re.search(r"<title>(\d+) of (\d+)</title>", text)
    assert found, text[:300]
    assert int(found[1]) <= int(found[2]) == width


def test_without_rows_there_is_nothing_to_search(tmp_path: Path) -> None:
    assert "No answers were recorded" in dom(render_audit(specimen(Evidence())), tmp_path)


def test_the_page_prints(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(render_audit(specimen()), encoding="utf-8")
    write_pdf(page, tmp_path / "page.pdf", BROWSER)
    assert (tmp_path / "page.pdf").stat().st_size > 20_000
