"""The environment of apps: what the specification wants, and who beats whom; rkt's eleven cases, of `enter`, too."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.pods import Pyrkt, make_aci, make_layout

pytestmark = [pytest.mark.root, pytest.mark.peers]

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
IMAGE = "example.com/env"
FILE = "# a remark\n; another\n\nVAR_OTHER=file\nVAR_FROM_FILE=a=b c\n"


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pyrkt]:
    """A store with an image that sets a variable."""
    made = Pyrkt(tmp_path_factory.mktemp("environment"))
    variables = [{"name": "VAR_FROM_MANIFEST", "value": "manifest"}]
    handlers = [{"name": name, "exec": ["/bin/sh", "-c", f"env > /{name}"]} for name in ("pre-start", "post-stop")]
    made.ok("fetch", str(make_aci(made.base / "env.aci", IMAGE, {"environment": variables})))
    app = {"environment": variables, "eventHandlers": handlers, "user": "user", "group": "user"}
    made.ok("fetch", str(make_aci(made.base / "handlers.aci", "example.com/handlers", app)))
    (made.base / "env.conf").write_text(FILE)
    yield made
    assert made.clean() == []


def environment(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.partition("=")
        assert name not in found, f"{name} twice"
        found[name] = value
    return found


def test_what_the_specification_wants(tool: Pyrkt) -> None:
    found = environment(tool.ok("run", IMAGE, "--exec=/bin/env"))
    assert found.pop("AC_METADATA_URL").startswith("http")
    assert found == {
        "PATH": PATH,
        "AC_APP_NAME": "env",
        "container": "pyrkt",
        "VAR_FROM_MANIFEST": "manifest",
        "SHELL": "/bin/sh",
        "USER": "root",
        "LOGNAME": "root",
        "HOME": "/root",
    }


def test_an_app_of_an_oci_image_knows_where_it_is_too(tool: Pyrkt, tmp_path: Path) -> None:
    layout = make_layout(tmp_path / "layout")
    found = environment(tool.ok("run", f"oci:{layout}:bb", "--name=mine", "--", "env"))
    assert (found["AC_APP_NAME"], found["container"], found["PATH"]) == ("mine", "pyrkt", "/bin")
    assert found["AC_METADATA_URL"].startswith("http")


def test_handlers_have_the_apps_environment_and_are_root(tool: Pyrkt) -> None:
    script = "until [ -e /pre-start ]; do sleep 0.02; done; cat /pre-start; echo --; env"
    uuid = tool.ok(
        "prepare", "--quiet", "--set-env=MORE=x", "example.com/handlers", "--exec=/bin/sh", "--", "-c", script
    ).split()[-1]
    before, own = tool.ok("run-prepared", uuid).split("--\n")
    after = (tool.directory(uuid) / "apps/handlers/upper/post-stop").read_text()
    first, *others = (
        {name: value for name, value in environment(text).items() if name not in ("SHLVL", "PWD", "OLDPWD", "_")}
        for text in (own, before, after)
    )
    assert others == [first, first]
    assert first["MORE"] == "x"
    assert (tool.directory(uuid) / "apps/handlers/upper/post-stop").stat().st_uid == 0


CASES = [
    pytest.param([], {}, "VAR_FROM_MANIFEST", "manifest", id="the-image"),
    pytest.param(["--set-env=VAR_OTHER=setenv"], {}, "VAR_OTHER", "setenv", id="set-env"),
    pytest.param(["--set-env=VAR_FROM_MANIFEST=setenv"], {}, "VAR_FROM_MANIFEST", "setenv", id="set-env-over-image"),
    pytest.param(["--inherit-env=true"], {"VAR_OTHER": "host"}, "VAR_OTHER", "host", id="inherited"),
    pytest.param(["--set-env=TERM=dumb"], {}, "TERM", "dumb", id="set-env-of-term"),
    pytest.param([], {"TERM": "dumb"}, "TERM", "", id="nothing-is-inherited-unasked"),
    pytest.param(
        ["--inherit-env"],
        {"VAR_FROM_MANIFEST": "host"},
        "VAR_FROM_MANIFEST",
        "manifest",
        id="image-over-inherited",
    ),
    pytest.param(
        ["--inherit-env", "--set-env=VAR_OTHER=setenv"],
        {"VAR_OTHER": "host"},
        "VAR_OTHER",
        "setenv",
        id="set-env-beats-inherited",
    ),
    pytest.param(
        ["--set-env=VAR_OTHER=setenv", "--set-env-file={}/env.conf"], {}, "VAR_OTHER", "setenv", id="set-env-beats-file"
    ),
    pytest.param(["--set-env-file={}/env.conf"], {}, "VAR_OTHER", "file", id="file"),
    pytest.param(["--set-env-file={}/env.conf"], {}, "VAR_FROM_FILE", "a=b c", id="file-with-a-value-of-words"),
    pytest.param(["--set-env-file={}/env.conf"], {}, "PATH", PATH, id="path-without-a-newline"),
]


@pytest.mark.parametrize(("flags", "environ", "name", "value"), CASES)
def test_who_beats_whom(tool: Pyrkt, flags: list[str], environ: dict[str, str], name: str, value: str) -> None:
    words = [flag.format(tool.base) for flag in flags]
    out = tool.ok(
        "run", *words, IMAGE, "--exec=/bin/sh", "--", "-c", f'echo "[${name}]"', env={"PATH": "/bin"} | environ
    )
    assert out == f"[{value}]\n"


def test_what_is_said_of_one_app_beats_all(tool: Pyrkt) -> None:
    show = ["--exec=/bin/sh", "--", "-c", "echo $AC_APP_NAME $VAR_OTHER"]
    pod = ["--inherit-env", f"--set-env-file={tool.base}/env.conf", "--set-env=VAR_OTHER=setenv"]
    apps = [IMAGE, "--name=one", "--environment=VAR_OTHER=mine", *show, "---", IMAGE, "--name=two", *show]
    out = tool.ok("run", *pod, *apps, env={"PATH": "/bin", "VAR_OTHER": "host"})
    assert sorted(out.splitlines()) == ["one mine", "two setenv"]


def test_nobody_takes_the_executors_own_variables(tool: Pyrkt) -> None:
    flags = ["--set-env=container=x", "--environment=AC_APP_NAME=x", "--environment=AC_METADATA_URL=http://x"]
    found = environment(tool.ok("run", flags[0], IMAGE, *flags[1:], "--exec=/bin/env"))
    assert (found["container"], found["AC_APP_NAME"]) == ("pyrkt", "env")
    assert re.match(r"http://127\.", found["AC_METADATA_URL"])


def test_what_is_entered_has_the_apps_environment(tool: Pyrkt) -> None:
    flags = [f"--set-env-file={tool.base}/env.conf", "--set-env=VAR_FROM_MANIFEST=setenv"]
    uuid = tool.detached(*flags, IMAGE, "--exec=/bin/sleep", "--", "600")
    try:
        found = environment(tool.ok("enter", uuid, "/bin/env", env={"PATH": "/bin", "VAR_OTHER": "host"}))
        assert (found["VAR_OTHER"], found["VAR_FROM_MANIFEST"], found["PATH"]) == ("file", "setenv", PATH)
        assert found["AC_APP_NAME"] == "env"
    finally:
        tool.ok("stop", "--force", uuid)


@pytest.mark.parametrize(
    ("words", "code", "problem"),
    [
        (["--set-env=A"], 2, "is not NAME=VALUE"),
        (["--set-env-file=/no/such"], 66, "no such file"),
        (["--set-env-file={}/bad.conf"], 2, "is not NAME=VALUE"),
    ],
)
def test_what_is_no_variable_is_refused(tool: Pyrkt, words: list[str], code: int, problem: str) -> None:
    (tool.base / "bad.conf").write_text("A=1\nno variable\n")
    answer = tool.call("run", *(word.format(tool.base) for word in words), IMAGE)
    assert answer.code == code
    assert problem in answer.err
