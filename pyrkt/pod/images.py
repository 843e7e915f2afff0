"""Images for pods: from the store where the pull policy allows it, else fetched, proven and stored."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pyrkt.image.pull import FetchRequest, fetch
from pyrkt.spec.image import host_platform
from pyrkt.store import Store
from pyrkt.trust.keys import DecryptionKeys
from pyrkt.trust.keystore import Keystore
from pyrkt.trust.policy import Policy, policy_paths

if TYPE_CHECKING:
    from pyrkt.base.dirs import ConfigDirs
    from pyrkt.image.pull import Progress
    from pyrkt.pod.ask import Pull
    from pyrkt.store import ImageRecord


class Source:
    """Where a command gets its images from: one store, one configuration, one way to pull."""

    def __init__(self, data: str, dirs: ConfigDirs, pull: Pull, progress: Progress) -> None:
        """Open the store; nothing is read from the network yet."""
        self.store = Store(data).open()
        self._request = FetchRequest(
            store=self.store,
            keystore=Keystore(dirs),
            policy=None if "image" in pull.insecure else _policy(dirs),
            keys=DecryptionKeys.load(pull.decryption_keys, dirs),
            insecure=pull.insecure,
            pull_policy=pull.policy,
            signature=None,
            platform=host_platform(),
            progress=progress,
            dirs=dirs,
            authfile=Path(pull.authfile) if pull.authfile else None,
        )

    def fetch(self, text: str, signature: str = "") -> ImageRecord:
        """Return the image that ``text`` names, as the pull policy says. Raises what ``image.pull.fetch`` raises."""
        request = replace(self._request, signature=Path(signature)) if signature else self._request
        return fetch(text, request)

    def hold(self) -> AbstractContextManager[None]:
        """Keep gc from the images until the pod that uses them is written."""
        return self.store.hold()


def _policy(dirs: ConfigDirs) -> Policy | None:
    """Return the policy; None where no file has one, which judges nothing well: the fetch then says what to do."""
    paths = policy_paths(dirs)
    return Policy.load(paths) if any(os.path.lexists(path) for path in paths) else None
