"""Undo: what was entered is left again, last first, when a step in between fails (design law 8)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self


class Undo:
    """A stack of ways back::

    with Undo() as undo:
        os.mkdir(path)
        undo.push(os.rmdir, path)
        ...                     # a failure here removes the directory
        undo.keep()             # success: nothing is undone
    """

    __slots__ = ("_steps",)

    def __init__(self) -> None:
        self._steps: list[tuple[Callable[..., object], tuple[object, ...]]] = []

    def push(self, function: Callable[..., object], *arguments: object) -> None:
        """Remember to call ``function(*arguments)``."""
        self._steps.append((function, arguments))

    def keep(self) -> None:
        """Forget every way back: the work is done."""
        self._steps.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failed: Exception | None = None
        while self._steps:
            function, arguments = self._steps.pop()
            try:
                function(*arguments)
            except Exception as problem:  # noqa: BLE001 - the steps below it must run whatever went wrong here
                # The first error is what the user must read; a way back that fails is noted beside it.
                if error is not None:
                    error.add_note(f"undoing: {problem}")
                else:
                    failed = failed or problem
        if failed is not None:
            raise failed
