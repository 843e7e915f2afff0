"""--dns and its kin, and --hosts-entry."""

from __future__ import annotations

import pytest

from pyrkt.base.errors import UsageError
from pyrkt.cli import asking
from pyrkt.cli import flags as tables
from pyrkt.cli.grammar import parse
from pyrkt.pod.ask import Names


def names(*words: str) -> Names:
    return asking.names(parse(words, tables.RUN))


def test_nothing_asked() -> None:
    assert names() == Names()


def test_a_whole_resolv_conf() -> None:
    found = names(
        "--dns=10.0.0.1,10.0.0.2", "--dns=fd00::1", "--dns-search=a", "--dns-search=b", "--dns-opt=x", "--dns-domain=d"
    )
    text = "domain d\nsearch a b\nnameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver fd00::1\noptions x\n"
    assert found == Names(resolv="given", text=text)
    assert names("--dns-domain=d").text == "domain d\n"


@pytest.mark.parametrize("word", ["host", "none"])
def test_host_and_none(word: str) -> None:
    assert names(f"--dns={word}") == Names(resolv=word)
    with pytest.raises(UsageError, match=f"no other --dns options allowed when --dns={word} is passed"):
        names(f"--dns={word}", "--dns=10.0.0.1")
    with pytest.raises(UsageError, match="no other --dns options allowed"):
        names(f"--dns={word}", "--dns-search=a")


def test_hosts_entries() -> None:
    found = names("--hosts-entry=10.0.0.1=db,fd00::1=db", "--hosts-entry=10.0.0.2=web")
    assert found == Names(hosts="given", entries=(("10.0.0.1", "db"), ("fd00::1", "db"), ("10.0.0.2", "web")))
    assert names("--hosts-entry=host") == Names(hosts="host")


@pytest.mark.parametrize(
    "word",
    [
        "--dns=name",
        "--dns=",
        "--dns-search=a b",
        "--dns-opt=a\nb",
        "--hosts-entry=x",
        "--hosts-entry=x=y",
        "--hosts-entry=10.0.0.1=",
        "--hosts-entry=10.0.0.1=a b",
        "--hosts-entry=host,10.0.0.1=a",
    ],
)
def test_refuses(word: str) -> None:
    with pytest.raises(UsageError):
        names(word)
