"""How a machine sends the digest by itself: a systemd timer and a line for cron."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from urllib.parse import urlsplit

from letheon.core.errors import InputError
from letheon.page.mail import PASSWORD


def schedule(command: Sequence[str]) -> str:
    """Return a systemd service and timer, and a cron line, that run a command every Monday at 7.

    A password in an address of the command is left out; the service reads it from a file of its own.
    """
    line = shlex.join(map(_without_password, command))
    cron = line.replace("%", r"\%")  # cron ends a command at a per cent sign
    unit = line.replace("%", "%%").replace("$", "$$")
    return f"""# ~/.config/systemd/user/letheon-digest.service
[Unit]
Description=Letheon's digest of papers

[Service]
Type=oneshot
# a line {PASSWORD}=... in this file, which only you can read
EnvironmentFile=-%h/.config/letheon/mail.env
ExecStart={unit}

# ~/.config/systemd/user/letheon-digest.timer
[Unit]
Description=Letheon's digest of papers, every Monday

[Timer]
OnCalendar=Mon 07:00
Persistent=true

[Install]
WantedBy=timers.target

# then: systemctl --user enable --now letheon-digest.timer
# or one line of `crontab -e`, with {PASSWORD}=... in a line above it:
0 7 * * 1 {cron}
"""


def _without_password(word: str) -> str:
    """Return the address of a mail server rebuilt from scheme, user, host and port; any other word as it is."""
    if not word.strip().lower().startswith(("smtp:", "smtps:")):
        return word
    try:
        parts = urlsplit(word.strip())
        host, port, user = parts.hostname or "", parts.port, parts.username or ""
    except ValueError:
        raise InputError("the mail server's address has another form", "write smtp://user@host:587") from None
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{user}{'@' if user else ''}{host}{f':{port}' if port else ''}"
