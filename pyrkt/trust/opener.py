"""The process that opens one OpenPGP file: ``python -I -m pyrkt.trust.opener INPUT OUTPUT LIMIT``, passphrase on stdin.

A process of its own, because the library writes what it unpacks without a bound (and OpenPGP messages are mostly
compressed) and holds the interpreter while it works: here the kernel bounds file and memory. Exit code 0, or 1 with
the reason on standard output.
"""

from __future__ import annotations

import resource
import signal
import sys

import pysequoia

MAX_MEMORY = 1 << 30


def main(arguments: list[str]) -> int:
    """Decrypt INPUT to OUTPUT, at most LIMIT bytes of it."""
    source, target, limit = arguments
    passphrase = sys.stdin.buffer.read()
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that the limit is an error of write(2), not a death
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    # Of its own: the file, which the library maps, does not count.
    resource.setrlimit(resource.RLIMIT_DATA, (MAX_MEMORY, MAX_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the passphrase is in this memory
    try:
        text = passphrase.decode("utf-8")
        pysequoia.decrypt_file(source, target, passwords=[text])
    except UnicodeDecodeError:
        sys.stdout.write("the passphrase is not UTF-8")
        return 1
    except (RuntimeError, OSError) as error:
        sys.stdout.write(str(error).partition("\n")[0])
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
