"""The error tree: what went wrong, where, what to do about it, and the exit code a script can rely on.

    PyrktError 1                 something failed that has no better place below
    +-- UsageError 2             the command line is wrong
    +-- InvalidSpec 64           a document or a name is malformed; names document, place and rule
    +-- ImageRefused 65          the content of an image is hostile, damaged or not what was declared
    +-- NotFound 66              no such image, pod, key or file
    +-- Unavailable 69           a registry or a network did not answer, or answered wrongly
    +-- KernelError 71           a system call failed (also an OSError)
    +-- CannotCreate 73          an output cannot be made: disk full, it exists already
    +-- Busy 75                  somebody else holds the lock; try again
    +-- NoPermission 77          the caller lacks a privilege
    +-- NotTrusted 78            signature, trust or encryption policy says no
    +-- StartFailed 125          a container could not be set up
        +-- NotExecutable 126    its program may not be executed
        +-- ProgramMissing 127   its program does not exist

Codes 64-78 follow sysexits.h where that has a meaning; 125-127 are those of podman and docker. ``docs/exit-codes.md``
is the table for people.
"""

from __future__ import annotations

from os import strerror

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar


class PyrktError(Exception):
    """Something failed. ``message`` is one line: what, where, why; ``hint`` says what to do."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


class UsageError(PyrktError):
    """The command line cannot be understood."""

    exit_code = 2


class InvalidSpec(PyrktError):
    """A document, a name or a number does not follow its specification.

    ``document`` is what was read ("config.json"), ``where`` the place in it ("process.rlimits[0].type"),
    ``rule`` the specification and section that is violated; each may be empty.
    """

    exit_code = 64

    def __init__(self, problem: str, *, document: str = "", where: str = "", rule: str = "", hint: str = "") -> None:
        place = ": ".join(part for part in (document, where) if part)
        message = f"{place}: {problem}" if place else problem
        super().__init__(f"{message} ({rule})" if rule else message, hint=hint)
        self.document, self.where, self.problem, self.rule = document, where, problem, rule


class ImageRefused(PyrktError):
    """The content of an image is hostile, damaged, or not what its manifest declared."""

    exit_code = 65


class NotFound(PyrktError):
    """Nothing has that name."""

    exit_code = 66


class Unavailable(PyrktError):
    """A server could not be reached or did not answer as its protocol says."""

    exit_code = 69


class KernelError(PyrktError, OSError):
    """A system call failed. Also an OSError, so that ``except OSError`` and ``.errno`` serve both worlds."""

    exit_code = 71

    def __init__(self, call: str, errno: int, about: str = "", *, hint: str = "") -> None:
        PyrktError.__init__(self, f"{call}({about}): {strerror(errno)}", hint=hint)
        self.call, self.errno, self.strerror, self.about = call, errno, strerror(errno), about

    def __str__(self) -> str:  # OSError's own would print its empty arguments
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:  # OSError's own would call __init__ with the message
        return type(self), (self.call, self.errno, self.about), {"message": self.message, "hint": self.hint}


class CannotCreate(PyrktError):
    """An output cannot be made: the disk is full, or something is there already."""

    exit_code = 73


class Busy(PyrktError):
    """Another process holds what is needed; the same command may succeed later."""

    exit_code = 75


class NoPermission(PyrktError):
    """The caller lacks a privilege that this needs."""

    exit_code = 77


class NotTrusted(PyrktError):
    """Policy refuses: no valid signature by a trusted key, or no key that decrypts."""

    exit_code = 78


class StartFailed(PyrktError):
    """A container could not be set up."""

    exit_code = 125


class NotExecutable(StartFailed):
    """The container's program exists but may not be executed."""

    exit_code = 126


class ProgramMissing(StartFailed):
    """The container's program does not exist in its root file system."""

    exit_code = 127


def printable(text: str) -> str:
    """Return ``text`` as one safe line: control characters and lone surrogates as escapes.

    Names come from images and servers; an escape sequence in one must not reach a terminal.
    """
    if text.isascii() and text.isprintable():
        return text
    # Latin-1's C1 controls and the separators U+2028/9 are unprintable too; letters of any script stay.
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def brief(text: str) -> str:
    """Return ``text`` as one safe line of at most 2,000 characters, the middle left out of a longer one.

    A manifest may hold a name of four megabytes; whoever reads what is wrong with it wants the beginning and the end.
    """
    line = printable(text)
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 500]}[...]{line[-480:]}"


_LONGEST = 2000
