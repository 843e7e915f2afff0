"""criu's messages, and what its log says of a failure."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrkt.base.errors import PyrktError
from pyrkt.runtime import criu, snapshot, wire
from pyrkt.spec.example import example_config
from pyrkt.spec.runtime import Config, Linux, Mount, Namespace

FIELDS = st.lists(
    st.tuples(st.integers(1, 2000), st.integers(-(2**63), 2**63 - 1) | st.text(max_size=20) | st.binary(max_size=20)),
    max_size=8,
)


@given(FIELDS)
def test_what_is_written_is_read(fields: list[tuple[int, wire.Value]]) -> None:
    found = wire.decode(wire.encode(fields))
    for number in {number for number, _ in fields}:
        values = [value for field, value in fields if field == number]
        for value, read in zip(values, found[number], strict=True):
            if isinstance(value, int):
                assert read == value % (1 << 64)
            else:
                assert read == (value.encode() if isinstance(value, str) else value)


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        message = wire.decode(data)
    except PyrktError:
        return
    for number in message:
        for read in (wire.number, wire.text, wire.inner):
            try:
                read(message, number)
            except PyrktError:
                continue


def test_the_bytes_are_those_of_protocol_buffers() -> None:
    """The examples of protobuf.dev, "Encoding"; a negative int32 takes ten bytes."""
    assert wire.encode([(1, 150)]) == bytes.fromhex("089601")
    assert wire.encode([(2, "testing")]) == bytes.fromhex("120774657374696e67")
    assert wire.encode([(3, wire.encode([(1, 150)]))]) == bytes.fromhex("1a03089601")
    assert wire.encode([(1, -2)]) == bytes.fromhex("08feffffffffffffffff01")
    assert wire.number(wire.decode(bytes.fromhex("08feffffffffffffffff01")), 1) == -2
    assert wire.decode(bytes.fromhex("0d01020304" + "1102030405060708091801")) == {
        1: [bytes.fromhex("01020304")],
        2: [bytes.fromhex("0203040506070809")],
        3: [1],
    }


@pytest.mark.parametrize(
    "data", [b"\x08", b"\x12\x05abc", b"\x0b", b"\xff" * 11], ids=["number", "text", "group", "long"]
)
def test_cut_short(data: bytes) -> None:
    with pytest.raises(PyrktError):
        wire.decode(data)


LOG = """(00.000100) Version: 3.17.1
(00.013000) Error (criu/tun.c:85): tun: Unable to create tun: Operation not permitted
(00.020000) vdso: Parsing
(00.021000) Error (criu/vdso.c:381): vdso: Unexpected bounds
(00.021100) Error (criu/kerndat.c:1615): kerndat_vdso_fill_symtable failed when initializing kerndat.
"""


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        pytest.param(LOG, "vdso: Unexpected bounds", id="the-first-of-the-last"),
        pytest.param(
            LOG + "(1) Unlock\n(2) Error (criu/cr-dump.c:1): Dumping FAILED.\n", "vdso: Unexpected bounds", id="end"
        ),
        pytest.param("(0) all is well\n", "", id="none"),
    ],
)
def test_the_reason(tmp_path: Path, log: str, reason: str) -> None:
    (tmp_path / "dump.log").write_text(log)
    assert criu.reason(str(tmp_path / "dump.log")) == reason
    assert criu.reason(str(tmp_path / "nothing")) == ""


def test_a_failure_says_why_and_what_to_do() -> None:
    message = wire.decode(wire.encode([(1, criu.DUMP), (2, 0), (7, 16), (9, "Error (a.c:1): Can't lookup mount=2\n")]))
    error = criu.failure(criu.Answer(message), "/w/dump.log")
    assert error.message == "criu failed: type DUMP errno 16: Can't lookup mount=2"
    assert "output" in error.hint
    assert error.hint.endswith("/w/dump.log")


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(PyrktError, match="executable file not found"):
        criu.version("/nonexistent/criu")


def test_one_that_is_no_criu() -> None:
    with pytest.raises(PyrktError, match="without an answer"):
        criu.version("/bin/true")


def test_what_lies_outside() -> None:
    spaces = (Namespace(type="network", path="/n"), Namespace(type="pid"), Namespace(type="ipc", path="/i"))
    config = example_config().replace(
        linux=Linux(namespaces=spaces), mounts=(Mount(destination="/a", source="/b", options=("rbind",)),)
    )
    assert snapshot.external(config) == [("network", "/n")]
    assert (snapshot.key("network"), snapshot.key("pid")) == ("extRootNetNS", "extRootPidNS")
    assert snapshot.is_bind(config, 0)
    assert "/dev/null" in snapshot.devices(Config(oci_version="1.0.0"))


def test_a_joined_cgroup_namespace_is_refused() -> None:
    linux = Linux(namespaces=(Namespace(type="cgroup", path="/c"),))
    with pytest.raises(PyrktError, match="cgroup namespace"):
        snapshot.check_namespaces(Config(oci_version="1.0.0", linux=linux))


@pytest.mark.parametrize(("parent", "problem"), [("/x", "must be relative"), ("x", "invalid --parent-path")])
def test_a_parent_that_criu_would_not_find(tmp_path: Path, parent: str, problem: str) -> None:
    with pytest.raises(PyrktError, match=problem):
        snapshot.check_parent(str(tmp_path / "images"), parent)
    (tmp_path / "parent").mkdir()
    (tmp_path / "images").mkdir(exist_ok=True)
    snapshot.check_parent(str(tmp_path / "images"), "../parent")
