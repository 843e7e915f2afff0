"""From an image and the wishes of a user to an OCI bundle: config.json, runtime.json, rootfs."""
