"""How a machine sends the digest by itself: a systemd timer and a line for cron."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from letheon.page.mail import PASSWORD


def schedule(command: Sequence[str]) -> str:
    """Return a systemd service and timer, and a cron line, that run a command every Monday at 7.

    A password in an address of the command is left out; the service reads it from a file of its own.
    """
    words = [re.sub(r"^(smtps?://[^/@:]*):[^@]*@", r"\1@", word) for word in command]
    line = shlex.join(words)
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
