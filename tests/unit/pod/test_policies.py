"""When an app is started again, and when a pod ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pyrkt.base.errors import UsageError
from pyrkt.cli import asking, flags
from pyrkt.cli.grammar import parse
from pyrkt.pod import policies

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrkt.pod.ask import PodAsk


def ask(*words: str) -> PodAsk:
    return asking.pod(parse(words, flags.RUN), frozenset(), {})


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("no", ("no", 0)),
        ("always", ("always", 0)),
        ("on-failure", ("on-failure", 0)),
        ("on-failure:3", ("on-failure", 3)),
    ],
)
def test_restart(text: str, found: tuple[str, int]) -> None:
    assert policies.restart(text, "--restart") == found


@pytest.mark.parametrize(("text", "found"), [("500ms", 500), ("2s", 2000), ("1m", 60_000), ("0s", 0)])
def test_delay(text: str, found: int) -> None:
    assert policies.delay(text, "--restart-delay") == found


@pytest.mark.parametrize(
    ("read", "text"),
    [
        *((policies.restart, text) for text in ("", "yes", "always:3", "on-failure:", "on-failure:0", "on-failure:x")),
        *((policies.restart, text) for text in ("on-failure:-1", "on-failure:99999999")),
        *((policies.delay, text) for text in ("", "5", "s", "1h", "-1s", "1.5s", "2mm", "61m", "٣s")),
        *((policies.exit_policy, text) for text in ("", "any", "until-all-exits")),
    ],
)
def test_refuses_other_words(read: Callable[[str, str], object], text: str) -> None:
    with pytest.raises(UsageError, match="--flag") as caught:
        read(text, "--flag")
    assert caught.value.hint


def test_by_flags() -> None:
    found = ask(
        "--exit-policy=until-all-exit", "a", "--restart=on-failure:5", "--restart-delay=20ms", "--fatal=false", "b"
    )
    assert found.exit_policy == "all"
    first, second = found.apps
    assert (first.restart, first.restart_max, first.restart_delay_ms, first.fatal) == ("on-failure", 5, 20, False)
    assert (second.restart, second.restart_max, second.restart_delay_ms, second.fatal) == ("no", 0, 1000, True)
    assert ask("a").exit_policy == "any-failure"
    assert ask("--exit-policy", "until-any-exits", "a").exit_policy == "any"


def test_by_annotation_which_a_flag_beats() -> None:
    words = ("--annotation=pyrkt/restart-policy=always", "--annotation=pyrkt/restart-delay=3s")
    (app,) = ask("a", *words).apps
    assert (app.restart, app.restart_delay_ms) == ("always", 3000)
    (app,) = ask("a", *words, "--restart=no", "--restart-delay=1ms").apps
    assert (app.restart, app.restart_delay_ms) == ("no", 1)
