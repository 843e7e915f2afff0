"""Where pyrkt looks: configuration directories in order of weight, and the data directory."""

from __future__ import annotations

import os

from pyrkt.base.record import Record

SYSTEM, LOCAL = "/usr/lib/pyrkt", "/etc/pyrkt"
_OVERFLOW_UID = 65534  # user_namespaces(7), "Unmapped user and group IDs"


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


def is_root() -> bool:
    """Tell whether the machine's directories are the caller's: root's, unless it is another's root file system.

    In a user namespace that somebody made for himself, "/" belongs to a user without a number there.
    """
    return os.geteuid() == 0 and os.stat("/").st_uid != _OVERFLOW_UID


def default_dirs() -> ConfigDirs:
    """Return the directories for the caller: root has no user directory, others have ~/.config/pyrkt."""
    if is_root():
        return ConfigDirs()
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return ConfigDirs(user=f"{base}/pyrkt")


def default_data() -> str:
    """Return where images and pods lie for the caller: /var/lib/pyrkt, or ~/.local/share/pyrkt."""
    if is_root():
        return "/var/lib/pyrkt"
    base = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return f"{base}/pyrkt"
