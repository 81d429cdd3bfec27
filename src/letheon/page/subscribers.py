"""Who gets the digest: addresses with double opt-in, and addresses that asked to be left alone."""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from sqlite3 import Connection

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
    """
    CREATE TABLE subscription_asks (client TEXT NOT NULL, asked TEXT NOT NULL);
    CREATE INDEX subscription_asks_by_time ON subscription_asks (asked);
    """,
)
EXPIRES = timedelta(days=2)  # of a link to confirm; an address gets no second one before
# Addresses that may be given within an hour, by one client and by all together: one client leaves room for others.
MOST_OF_A_CLIENT, MOST_OF_ALL = 20, 400


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
        now = now or datetime.now(UTC)
        oldest, hour = (now - EXPIRES).isoformat(), (now - timedelta(hours=1)).isoformat()
        with self.shelf.transaction() as connection:
            connection.execute("DELETE FROM subscribers WHERE state = 'waiting' AND asked <= ?", (oldest,))
            connection.execute("UPDATE subscribers SET confirm = '' WHERE confirm != '' AND asked <= ?", (oldest,))
            connection.execute("DELETE FROM subscription_asks WHERE asked <= ?", (hour,))

    def ask(self, address: str, client: str = "", now: datetime | None = None) -> str | None:
        """Note an address that wants to subscribe.

        Args:
            address: the mail address.
            client: network address of who gives it; its hash is kept for an hour.
            now: the time.

        Returns:
            the token that its mail must carry; None if no mail is due: the address is subscribed, has a link that is
            still valid, or unsubscribed, after which only the link of a mail that it got can bring it back.

        Raises:
            InputError: the text is no address, or too many addresses were given within an hour.
        """
        address, now = check_address(address), now or datetime.now(UTC)
        token = secrets.token_urlsafe(24)
        with self.shelf.transaction() as connection:
            self.delete_expired(now)
            self._count(connection, client, now)  # before the address is looked up, so that it tells nothing about it
            row = connection.execute("SELECT * FROM subscribers WHERE address = ?", (address.lower(),)).fetchone()
            if row and (row["state"] in ("subscribed", "left") or row["confirm"]):
                return None
            connection.execute(
                "INSERT INTO subscribers VALUES (?, 'waiting', ?, ?, ?) ON CONFLICT (address) DO UPDATE SET "
                "confirm = excluded.confirm, asked = excluded.asked",
                (address.lower(), secrets.token_urlsafe(24), _hash(token), now.isoformat()),
            )
        return token

    def _count(self, connection: Connection, client: str, now: datetime) -> None:
        """Count an address that a client gives.

        Raises:
            InputError: it is one too many.
        """
        who = _hash(network(client))
        asked = "SELECT count(*) FROM subscription_asks WHERE asked > ?"
        hour = (now - timedelta(hours=1)).isoformat()
        ours = connection.execute(f"{asked} AND client = ?", (hour, who)).fetchone()[0]
        if ours >= MOST_OF_A_CLIENT or connection.execute(asked, (hour,)).fetchone()[0] >= MOST_OF_ALL:
            raise InputError("many addresses were given within an hour", "try again in an hour")
        connection.execute("INSERT INTO subscription_asks VALUES (?, ?)", (who, now.isoformat()))

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


def network(client: str) -> str:
    """Return what stands for a client: its IPv4 address, or the /64 network of its IPv6 address."""
    try:
        address = ip_address(client)
    except ValueError:
        return client
    if address.version == 4:
        return str(address)
    return str(address.ipv4_mapped or ip_network(f"{client}/64", strict=False))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
