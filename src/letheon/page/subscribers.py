"""Who gets the digest: addresses with double opt-in, and addresses that asked to be left alone."""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime, timedelta

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
AGAIN, EXPIRES = timedelta(minutes=10), timedelta(days=2)
MOST_WAITING = 1000  # addresses that have not confirmed; the oldest give way


class Subscribers:
    """The subscribers in the reader's file.

    An address is stored as it is written, compared in lower case. A token to confirm is stored as its hash; the one to
    leave is stored itself, as every digest carries it.
    """

    def __init__(self, shelf: Shelf) -> None:
        shelf.extend("subscribers", MIGRATIONS)
        self.shelf = shelf

    def ask(self, address: str, now: datetime | None = None) -> str | None:
        """Note an address that wants to subscribe.

        Returns:
            the token that its mail must carry; None if no mail is due, since it is subscribed or got one just now.

        Raises:
            InputError: the text is no address.
        """
        address, now = check_address(address), now or datetime.now(UTC)
        token = secrets.token_urlsafe(24)
        with self.shelf.transaction() as connection:
            row = connection.execute("SELECT * FROM subscribers WHERE address = ?", (address.lower(),)).fetchone()
            just_now = row and row["confirm"] and datetime.fromisoformat(row["asked"]) > now - AGAIN
            if row and (row["state"] == "subscribed" or just_now):
                return None
            connection.execute(
                "INSERT INTO subscribers VALUES (?, 'waiting', ?, ?, ?) ON CONFLICT (address) DO UPDATE SET "
                "confirm = excluded.confirm, asked = excluded.asked, "
                "state = CASE state WHEN 'left' THEN 'left' ELSE 'waiting' END",
                (address.lower(), secrets.token_urlsafe(24), _hash(token), now.isoformat()),
            )
            connection.execute(
                "DELETE FROM subscribers WHERE state = 'waiting' AND address NOT IN "
                "(SELECT address FROM subscribers WHERE state = 'waiting' ORDER BY asked DESC LIMIT ?)",
                (MOST_WAITING,),
            )
        return token

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
