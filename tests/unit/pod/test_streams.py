"""Which streams an app gets for what is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pyrkt.base.errors import InvalidSpec, UsageError
from pyrkt.base.reader import Reader
from pyrkt.cli import asking, flags
from pyrkt.cli.grammar import parse
from pyrkt.pod.ask import App, PodAsk
from pyrkt.pod.streams import Where, Wish, beside, main, wants_terminal, wish

if TYPE_CHECKING:
    from pyrkt.plan.place import Streams

UUID = "6f1b4f0e-0000-4000-8000-000000000001"


def made(*, apps: int = 1, detach: bool = False, terminal: bool = False, **wanted: Any) -> Streams:
    return main(Wish(**wanted), "app", Where(path="/pod", uuid=UUID, apps=apps, detach=detach), terminal=terminal)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        pytest.param({}, ("inherit", "stream", "stream", True, ""), id="foreground"),
        pytest.param({"detach": True}, ("null", "stream", "stream", False, ""), id="background"),
        pytest.param({"apps": 2}, ("null", "stream", "stream", True, "app"), id="several"),
        pytest.param({"apps": 2, "detach": True}, ("null", "stream", "stream", False, ""), id="several-in-background"),
        pytest.param({"terminal": True}, ("own", "tty", "tty", True, ""), id="interactive"),
        pytest.param({"terminal": True, "stdin": "tty"}, ("tty", "tty", "tty", True, ""), id="tty"),
        pytest.param({"terminal": True, "stdout": "tty"}, ("tty", "tty", "tty", True, ""), id="tty-by-output"),
        pytest.param(
            {"terminal": True, "stdout": "tty", "stdin": "null", "stderr": "log"},
            ("null", "tty", "log", True, ""),
            id="tty-in-part",
        ),
        pytest.param(
            {"stdin": "stream", "stdout": "null", "stderr": "log"}, ("stream", "null", "log", True, ""), id="words"
        ),
    ],
)
def test_modes(how: dict[str, Any], expected: tuple[object, ...]) -> None:
    found = made(**how)
    assert (found.stdin, found.stdout, found.stderr, found.pass_on, found.name) == expected
    assert found.terminal() == how.get("terminal", False)
    assert (found.log, found.attach) == ("/pod/logs/app.log", "/pod/apps/app/attach")


def test_logs() -> None:
    assert (made(size=70000, files=2).most, made(size=70000, files=2).files) == (70000, 2)
    assert made(log="none").log == ""
    fields = dict(made(log="journald").journal)
    assert fields == {"SYSLOG_IDENTIFIER": "app", "PYRKT_POD": UUID, "PYRKT_APP": "app"}
    assert made().journal == ()


def test_what_runs_beside_an_app_is_logged_with_it() -> None:
    found = beside(made(terminal=True, stdin="tty", log="journald"))
    assert (found.log, found.attach, found.stdin, found.stdout) == ("/pod/logs/app.log", "", "null", "log")
    assert found.journal
    assert not found.terminal()


def test_a_wish_is_read_back() -> None:
    asked = Wish(stdin="tty", stdout="log", log="journald", size=100_000, files=3)
    assert Wish.read(Reader(asked.as_json(), "recipe")) == asked
    with pytest.raises(InvalidSpec):
        Wish.read(Reader(asked.as_json() | {"size": 1}, "recipe"))


def ask(*words: str) -> PodAsk:
    return asking.pod(parse(words, flags.RUN), frozenset(), {})


def test_flags() -> None:
    asked = ask("--log=journald", "--log-size=1Mi", "--log-files=3", "a", "--stdin=stream", "--stdout=log", "b")
    assert wish(asked, asked.apps[0]) == Wish(stdin="stream", stdout="log", log="journald", size=1 << 20, files=3)
    assert wish(asked, asked.apps[1]) == Wish(log="journald", size=1 << 20, files=3)
    assert wish(ask("a"), App(image="a")) == Wish()
    assert [wants_terminal(app) for app in ask("a", "--stderr=tty", "b").apps] == [True, False]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["a", "--stdin=log"], "--stdin 'log' is none of null, tty, stream"),
        (["a", "--stdout=file"], "--stdout 'file' is none of log, null, tty, stream"),
        (["--log=syslog", "a"], "--log 'syslog' is none of file, journald, none"),
        (["--log-size=1K", "a"], "--log-size '1K' is 1000 bytes"),
        (["--log-files=0", "a"], "--log-files '0' is not a number between 1 and 1000"),
        (["--interactive", "a", "--stdout=log"], "--interactive gives the app this terminal"),
    ],
)
def test_what_cannot_be(words: list[str], text: str) -> None:
    with pytest.raises(UsageError) as caught:
        ask(*words)
    assert text in caught.value.message
    assert caught.value.hint


def test_a_journal_that_is_not_there_is_told(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for there in (True, False):
        monkeypatch.setattr("os.path.exists", lambda _path, there=there: there)
        ask("--log=journald", "a")
        assert ("systemd's journal is not there" in capfd.readouterr().err) != there
