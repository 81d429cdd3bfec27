"""A shelf, and the site around it, without the thread that computes vectors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from letheon.page.app import create_app
from letheon.page.entries import Entry
from letheon.page.library import Library
from letheon.page.shelf import Shelf

HOSTILE = [
    "<script>document.title='acted'</script>",
    '"><img src=x onerror="document.title=1">',
    "</textarea></title><svg onload=document.title=1>",
    "\u202egnp.exe \u2066 \x00\x1b[31m {{ 7*7 }} {% raw %}",
]


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    shelf = Shelf(tmp_path / "page.sqlite")
    yield shelf
    shelf.close()


@pytest.fixture
def client(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr(Library, "_embed", lambda self, snapshot: None)
    entries = [Entry(f"hostile-{i}", text, (text,), abstract=text, date="2025-03-04") for i, text in enumerate(HOSTILE)]
    shelf.add(entries)
    with TestClient(create_app(shelf), base_url="http://127.0.0.1:8457") as client:
        yield client


@pytest.fixture
def token(client: TestClient) -> str:
    """The token of the forms."""
    client.get("/")
    return str(client.cookies["letheon_token"])
