"""appc's event handlers: programs of the image that run before the app starts, and after it has ended.

Source: appc 0.8.11, image manifest, "eventHandlers"; rkt 1.30 for the user, who is root whoever the app's is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyrkt.base.errors import InvalidSpec
from pyrkt.spec.runtime import User

if TYPE_CHECKING:
    from pyrkt.spec.runtime import Config


def container(config: Config, words: tuple[str, ...]) -> Config:
    """Return the container that runs the handler ``words`` of the app whose container is ``config``.

    It is the app's own (its files, limits, privileges, environment) but for the program, the user and the terminal.
    Raises: InvalidSpec if ``config`` runs nothing.
    """
    if config.process is None:
        raise InvalidSpec("has no process", document="config.json")
    process = config.process.replace(args=words, user=User(), terminal=False, console_size=None)
    return config.replace(process=process, hooks=None)


def without(config: Config) -> Config:
    """Return ``config`` for whoever runs the handlers himself: a bundle runs its pre-start handler as a hook."""
    return config.replace(hooks=None)
