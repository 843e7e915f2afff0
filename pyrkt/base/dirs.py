"""Where pyrkt looks: configuration directories in order of weight, and the data directory."""

from __future__ import annotations

import os

from pyrkt.base.record import Record

SYSTEM, LOCAL = "/usr/lib/pyrkt", "/etc/pyrkt"


class ConfigDirs(Record):
    """The configuration directories, as rkt has them: ``local`` overrides ``system``, ``user`` overrides both.

    ``user`` is empty where there is none. Each holds trustedkeys/, auth.d/, paths.d/, decryptionkeys.d/, policy.json.
    """

    system: str = SYSTEM
    local: str = LOCAL
    user: str = ""

    def lightest_first(self) -> tuple[str, ...]:
        """Return the directories so that a later one overrides an earlier one."""
        return tuple(path for path in (self.system, self.local, self.user) if path)


def default_dirs() -> ConfigDirs:
    """Return the directories for the caller: root has no user directory, others have ~/.config/pyrkt."""
    if os.geteuid() == 0:
        return ConfigDirs()
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return ConfigDirs(user=f"{base}/pyrkt")


def default_data() -> str:
    """Return where images and pods lie for the caller: /var/lib/pyrkt, or ~/.local/share/pyrkt."""
    if os.geteuid() == 0:
        return "/var/lib/pyrkt"
    base = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return f"{base}/pyrkt"
