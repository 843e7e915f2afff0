"""rkt's argument grammar, case by case."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pyrkt.base.errors import UsageError
from pyrkt.cli import flags
from pyrkt.cli.grammar import extract, leading, parse

if TYPE_CHECKING:
    from pyrkt.cli.grammar import Value

    Images = list[tuple[str, dict[str, Value], tuple[str, ...]]]


@pytest.mark.parametrize(
    ("words", "pod", "images"),
    [
        pytest.param("a", {}, [("a", {}, ())], id="one-image"),
        pytest.param("a b", {}, [("a", {}, ()), ("b", {}, ())], id="two-images"),
        pytest.param("a -- x y", {}, [("a", {}, ("x", "y"))], id="args"),
        pytest.param("a -- x --- b -- y", {}, [("a", {}, ("x",)), ("b", {}, ("y",))], id="args-of-each"),
        pytest.param("a --- b", {}, [("a", {}, ()), ("b", {}, ())], id="stray-end-is-ignored"),
        pytest.param("a -- --memory=1 -- -d", {}, [("a", {}, ("--memory=1", "--", "-d"))], id="args-are-not-flags"),
        pytest.param("a -- --- --user=1", {}, [("a", {"user": "1"}, ())], id="flags-after-args"),
        pytest.param("a --exec /x b --exec /y", {}, [("a", {"exec": "/x"}, ()), ("b", {"exec": "/y"}, ())], id="binds"),
        pytest.param(
            "--mount m a b --mount n", {"mount": ["m"]}, [("a", {}, ()), ("b", {"mount": ["n"]}, ())], id="mount"
        ),
        pytest.param("--name p a --name q", {"name": "p"}, [("a", {"name": "q"}, ())], id="names"),
        pytest.param("a --set-env K=V", {"set-env": ["K=V"]}, [("a", {}, ())], id="pod-flag-after-the-image"),
        pytest.param("-d a", {"detach": True}, [("a", {}, ())], id="short"),
        pytest.param("--detach=false a", {"detach": False}, [("a", {}, ())], id="bool-value"),
        pytest.param("--net=host a", {"net": ["host"]}, [("a", {}, ())], id="net-value"),
        pytest.param("--net a", {"net": ["default"]}, [("a", {}, ())], id="net-takes-no-word"),
        pytest.param("--volume v --volume w a", {"volume": ["v", "w"]}, [("a", {}, ())], id="repeated"),
        pytest.param(
            "a --cap-retain X --pids-limit 5", {}, [("a", {"caps-retain": ["X"], "pids": "5"}, ())], id="aliases"
        ),
        pytest.param("a --user=", {}, [("a", {"user": ""}, ())], id="empty-value"),
        pytest.param("", {}, [], id="nothing"),
        pytest.param("-", {}, [("-", {}, ())], id="dash-is-a-word"),
    ],
)
def test_understands(words: str, pod: dict[str, Value], images: Images) -> None:
    line = parse(words.split(), flags.RUN)
    assert line.flags == pod
    assert [(image.text, image.flags, image.args) for image in line.images] == images


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        pytest.param("--exec /x a", "--exec must follow an image", id="app-flag-first"),
        pytest.param("a --exec /x --exec /y", "specified multiple times for the same image", id="twice"),
        pytest.param("-- x", "an image is required before any app arguments", id="args-first"),
        pytest.param("a -- x --- -- y", "only one set of app arguments", id="two-sets"),
        pytest.param("a --nonsense", "unknown flag --nonsense", id="unknown"),
        pytest.param("a --user", "--user needs a value", id="no-value"),
        pytest.param("--detach=maybe a", "neither true nor false", id="bad-bool"),
        pytest.param("--net host a", "takes its value with '='", id="net-without-equals"),
    ],
)
def test_refuses_and_says_what_to_write(words: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem) as caught:
        parse(words.split(), flags.RUN)
    assert caught.value.hint


def test_a_command_without_apps_takes_no_arguments() -> None:
    with pytest.raises(UsageError, match="takes no app arguments"):
        parse(["a", "--", "x"], flags.FETCH, app_args=False)


def test_global_flags_stand_before_the_command() -> None:
    found, rest = leading(["--dir", "/x", "--debug", "run", "--debug", "a"], flags.GLOBAL)
    assert found == {"dir": "/x", "debug": True}
    assert rest == ["run", "--debug", "a"]


def test_global_flags_stand_after_it_too_but_not_in_arguments() -> None:
    found, rest = extract(["--full", "--dir=/x", "u", "--", "--debug"], flags.GLOBAL)
    assert found == {"dir": "/x"}
    assert rest == ["--full", "u", "--", "--debug"]


def test_several_switches_may_be_one_word() -> None:
    found, rest = leading(["-it", "-e", "A=1", "uuid", "-it"], flags.ENTER)
    assert found == {"tty": True, "interactive": True, "env": ["A=1"]}
    assert rest == ["uuid", "-it"]
    for word in ("-ie", "-iz", "--it"):
        with pytest.raises(UsageError, match=f"unknown flag {word}"):
            leading([word, "x"], flags.ENTER)


@pytest.mark.parametrize("table", ["RUN", "PREPARE", "RUN_PREPARED", "FETCH", "ENTER", "GLOBAL"])
def test_no_two_flags_share_a_spelling(table: str) -> None:
    spelled = [name for flag in getattr(flags, table) for name in (flag.name, *flag.aliases)]
    assert len(spelled) == len(set(spelled))
    assert not set(spelled) & ({flag.name for flag in flags.GLOBAL} if table != "GLOBAL" else set())
