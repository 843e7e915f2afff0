"""kernel: the only users of ctypes and fcntl; one module a family of man pages, thin wrappers over descriptors."""
