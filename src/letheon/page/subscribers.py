"""Who gets the digest: addresses with double opt-in, and addresses that asked to be left alone."""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime, timedelta

from letheon.core.errors import InputError
from letheon.page.mail import check_address
from letheon.page.shelf import Shelf

MIGRATIONS = (
    """
    CREATE TABLE subscribers (
        address TEXT PRIMARY KEY, state TEXT NOT NULL, leave TEXT NOT NULL UNIQUE,
        confirm TEXT NOT NULL DEFAULT '', asked TEXT NOT NULL
    );
    """,
)
EXPIRES = timedelta(days=2)  # of a link to confirm; an address gets no second one before
MOST_IN_AN_HOUR = 20  # mails that ask for a confirmation, to all addresses together


class Subscribers:
    """The subscribers in the reader's file.

    An address is stored as it is written, compared in lower case. A token to confirm is stored as its hash; the one to
    leave is stored itself, as every digest carries it.
    """

    def __init__(self, shelf: Shelf) -> None:
        shelf.extend("subscribers", MIGRATIONS)
        self.shelf = shelf
        self.delete_expired()

    def delete_expired(self, now: datetime | None = None) -> None:
        """Delete the addresses that did not confirm in time."""
        oldest = ((now or datetime.now(UTC)) - EXPIRES).isoformat()
        with self.shelf.transaction() as connection:
            connection.execute("DELETE FROM subscribers WHERE state = 'waiting' AND asked <= ?", (oldest,))
            connection.execute("UPDATE subscribers SET confirm = '' WHERE confirm != '' AND asked <= ?", (oldest,))

    def ask(self, address: str, now: datetime | None = None) -> str | None:
        """Note an address that wants to subscribe.

        Returns:
            the token that its mail must carry; None if no mail is due: the address is subscribed, has a link that is
            still valid, or unsubscribed, after which only the link of a mail that it got can bring it back.

        Raises:
            InputError: the text is no address, or too many mails were asked for within an hour.
        """
        address, now = check_address(address), now or datetime.now(UTC)
        token = secrets.token_urlsafe(24)
        with self.shelf.transaction() as connection:
            self.delete_expired(now)
            hour = (now - timedelta(hours=1)).isoformat()
            asked = "asked > ? AND (confirm != '' OR state = 'subscribed')"
            if connection.execute(f"SELECT count(*) FROM subscribers WHERE {asked}", (hour,)).fetchone()[0] >= (
                MOST_IN_AN_HOUR  # said before the address is looked up, so that it tells nothing about it
            ):
                raise InputError("many addresses were given within an hour", "try again in an hour")
            row = connection.execute("SELECT * FROM subscribers WHERE address = ?", (address.lower(),)).fetchone()
            if row and (row["state"] in ("subscribed", "left") or row["confirm"]):
                return None
            connection.execute(
                "INSERT INTO subscribers VALUES (?, 'waiting', ?, ?, ?) ON CONFLICT (address) DO UPDATE SET "
                "confirm = excluded.confirm, asked = excluded.asked",
                (address.lower(), secrets.token_urlsafe(24), _hash(token), now.isoformat()),
            )
        return token

    def forget(self, token: str) -> None:
        """Forget a token to confirm whose mail could not be sent, and the address if nothing else is known of it."""
        with self.shelf.transaction() as connection:
            connection.execute("DELETE FROM subscribers WHERE confirm = ? AND state = 'waiting'", (_hash(token),))
            connection.execute("UPDATE subscribers SET confirm = '' WHERE confirm = ?", (_hash(token),))

    def confirm(self, token: str, now: datetime | None = None) -> bool:
        """Subscribe the address that got this token; return whether the token is one, and still valid."""
        oldest = (now or datetime.now(UTC)) - EXPIRES
        with self.shelf.transaction() as connection:
            done = connection.execute(
                "UPDATE subscribers SET state = 'subscribed', confirm = '' WHERE confirm = ? AND asked > ?",
                (_hash(token), oldest.isoformat()),
            )
            return done.rowcount == 1

    def leave(self, token: str) -> bool:
        """Unsubscribe the address whose digests carry this token; return whether there is one."""
        with self.shelf.transaction() as connection:
            done = connection.execute("UPDATE subscribers SET state = 'left', confirm = '' WHERE leave = ?", (token,))
            return done.rowcount == 1

    def come_back(self, token: str) -> bool:
        """Subscribe the address that unsubscribed and whose mails carry this token; return whether there is one."""
        with self.shelf.transaction() as connection:
            done = connection.execute(
                "UPDATE subscribers SET state = 'subscribed' WHERE leave = ? AND state = 'left'", (token,)
            )
            return done.rowcount == 1

    def token_to_leave(self, address: str) -> str:
        """Return the token by which an address unsubscribes; an address that is new here gets one."""
        address = check_address(address).lower()
        with self.shelf.transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO subscribers VALUES (?, 'given', ?, '', ?)",
                (address, secrets.token_urlsafe(24), datetime.now(UTC).isoformat()),
            )
            row = connection.execute("SELECT leave FROM subscribers WHERE address = ?", (address,)).fetchone()
        return str(row["leave"])

    def state(self, address: str) -> str:
        """Return `subscribed`, `waiting`, `left`, `given` (got a digest without subscribing) or `unknown`."""
        rows = self.shelf.rows("SELECT state FROM subscribers WHERE address = ?", (address.strip().lower(),))
        return rows[0]["state"] if rows else "unknown"

    def addresses(self) -> list[str]:
        """Return the addresses that are subscribed."""
        rows = self.shelf.rows("SELECT address FROM subscribers WHERE state = 'subscribed' ORDER BY address")
        return [row["address"] for row in rows]


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
