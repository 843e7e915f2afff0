"""Images for pods: from the store where the pull policy allows it, else fetched, proven and stored."""

from __future__ import annotations

import hashlib
import os
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pyrkt.base.errors import ImageRefused, NotFound
from pyrkt.image.pull import FetchRequest, fetch
from pyrkt.spec.image import host_platform
from pyrkt.store import Store
from pyrkt.trust.keys import DecryptionKeys
from pyrkt.trust.keystore import Keystore
from pyrkt.trust.policy import Policy, policy_paths

if TYPE_CHECKING:
    from pyrkt.base.dirs import ConfigDirs
    from pyrkt.image.pull import Progress
    from pyrkt.pod.ask import App, Pull
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

    def image(self, app: App) -> ImageRecord:
        """Return the image that ``app`` wants: by its id where that is said, and then never another one.

        Raises: what ``fetch`` raises; ImageRefused if what was fetched is not what the id says.
        """
        if not app.image_id:
            return self.fetch(app.image, app.signature)
        for record in self.store.images.all():
            if image_id(record, self.store) == app.image_id:
                return self.fetch(record.id)
        if not app.image:
            raise NotFound(
                f"image {app.image_id[:19]} of app {app.name} is not in the store", hint="fetch it, or add its name"
            )
        found = self.fetch(app.image)
        if (identity := image_id(found, self.store)) != app.image_id:
            raise ImageRefused(
                f"{app.image} is image {identity[:19]}, but the pod manifest wants {app.image_id[:19]} for {app.name}",
                hint="name the version that is meant, or its new id",
            )
        return found

    def shapes(self, net: str) -> tuple[bool, str]:
        """Tell whether the networks ``net`` of a pod can limit its bandwidth; else also why not.

        One that has only a loopback has none that would have to be limited.
        """
        if net in ("none", "host"):
            return net == "none", "" if net == "none" else "the host's network is not the pod's to limit"
        from pyrkt.pod.network import shapes  # noqa: PLC0415 - most pods have no network

        return shapes(net, self._request.dirs)

    def hold(self) -> AbstractContextManager[None]:
        """Keep gc from the images until the pod that uses them is written."""
        return self.store.hold()


def image_id(record: ImageRecord, store: Store) -> str:
    """Return the image's id as appc's documents want it: "sha512-" and 128 digits.

    An ACI's is the hash of its tar. An OCI image has no such hash; its manifest, which names all of it, has.
    """
    if record.kind == "appc":
        return record.id
    with store.blobs.open(record.manifest) as file:
        return f"sha512-{hashlib.sha512(file.read()).hexdigest()}"


def _policy(dirs: ConfigDirs) -> Policy | None:
    """Return the policy; None where no file has one, which judges nothing well: the fetch then says what to do."""
    paths = policy_paths(dirs)
    return Policy.load(paths) if any(os.path.lexists(path) for path in paths) else None
