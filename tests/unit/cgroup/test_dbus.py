"""D-Bus messages as bytes, and a bus that answers, refuses, or hangs up."""

from __future__ import annotations

import socket
import struct
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrkt.base.errors import Unavailable
from pyrkt.cgroup import dbus
from pyrkt.cgroup.dbus import CALL, ERROR, RETURN, SIGNAL, Bus, CallFailed, Message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "org.freedesktop.systemd1"


def reply(kind: int, to: int, signature: str = "", *body: Any, **fields: str) -> bytes:
    """Return what a server sends: ``encode`` makes calls only, so the fields are added by hand."""
    data = bytearray()
    for part, value in zip(dbus.split(signature), body, strict=True):
        dbus.put(data, part, value)
    head = bytearray(struct.pack("<cBBBII", b"l", kind, 0, 1, len(data), 7))
    found: list[tuple[int, tuple[str, Any]]] = [(5, ("u", to))] if to else []
    numbers = {"path": (1, "o"), "interface": (2, "s"), "member": (3, "s"), "error": (4, "s")}
    found += [(numbers[name][0], (numbers[name][1], text)) for name, text in fields.items()]
    found += [(8, ("g", signature))] if signature else []
    dbus.put(head, "a(yv)", found)
    head += bytes(-len(head) % 8)
    return bytes(head + data)


def test_a_call_is_what_busctl_sends() -> None:
    """The bytes of ``busctl call org.freedesktop.systemd1 / org.example.I Ping s hi``, by the specification's table."""
    message = Message(
        kind=CALL, serial=2, path="/", interface="org.example.I", member="Ping", signature="s", body=("hi",)
    )
    data = dbus.encode(message, NAME)
    assert data[:4] == b"l\x01\x00\x01"
    assert struct.unpack("<II", data[4:12]) == (7, 2)
    assert data.endswith(b"\x02\x00\x00\x00hi\x00")
    assert dbus.size_of(data[:16]) == len(data)
    assert dbus.decode(data).replace(body=()) == message.replace(body=())


@pytest.mark.parametrize(
    ("signature", "value", "data"),
    [
        pytest.param("y", 7, "07", id="byte"),
        pytest.param("b", True, "01000000", id="boolean"),
        pytest.param("n", -2, "feff", id="int16"),
        pytest.param("t", 1, "0100000000000000", id="uint64"),
        pytest.param("s", "hi", "02000000686900", id="string"),
        pytest.param("g", "a(sv)", "0561287376290000"[:14], id="signature"),
        pytest.param("au", [1, 2], "080000000100000002000000", id="array"),
        pytest.param("ay", b"\x01\x02", "020000000102", id="bytes"),
        pytest.param("at", [1], "08000000000000000100000000000000", id="array-of-aligned"),
        pytest.param("a(ss)", [], "0000000000000000", id="empty-array-of-aligned"),
        pytest.param("v", ("u", 5), "0175000005000000", id="variant"),
        pytest.param("(yu)", (1, 2), "0100000002000000", id="struct"),
    ],
)
def test_values_on_the_wire(signature: str, value: Any, data: str) -> None:
    found = bytearray()
    dbus.put(found, signature, value)
    assert found.hex() == data


@pytest.mark.parametrize("signature", ["a", "(", "()", "(s", "{sv", "a{s}", "z", "a{svs}", "a" * 40 + "s"])
def test_what_is_no_signature(signature: str) -> None:
    with pytest.raises(ValueError, match="no signature"):
        dbus.split(signature)


@pytest.mark.parametrize(("signature", "value"), [("u", -1), ("y", 256), ("s", "a\0b"), ("(ss)", ("a",)), ("t", "x")])
def test_what_does_not_fit(signature: str, value: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each says something else
        dbus.put(bytearray(), signature, value)


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "y": st.integers(0, 255),
    "b": st.booleans(),
    "i": st.integers(-(1 << 31), (1 << 31) - 1),
    "t": st.integers(0, (1 << 64) - 1),
    "s": st.text(st.characters(exclude_characters="\0", codec="utf-8")),
    "as": st.lists(st.text("abc/")),
    "ay": st.binary(),
    "a(ss)": st.lists(st.tuples(st.text("ab"), st.text("cd"))),
    "a{su}": st.dictionaries(st.text("ab"), st.integers(0, 9)),
}


@given(
    st.lists(st.sampled_from(sorted(VALUES)).flatmap(lambda kind: st.tuples(st.just(kind), VALUES[kind])), max_size=6)
)
def test_what_is_put_is_read_again(values: list[tuple[str, Any]]) -> None:
    signature = "".join(kind for kind, _ in values)
    message = Message(kind=CALL, serial=9, path="/a", member="M", signature=signature, body=tuple(v for _, v in values))
    assert dbus.decode(dbus.encode(message)) == message


@given(st.binary(max_size=200), st.integers(0, 300))
def test_any_bytes_are_read_or_refused(noise: bytes, at: int) -> None:
    good = bytearray(reply(SIGNAL, 0, "uos", 1, "/x", "y", path="/org", interface="a.b", member="M"))
    good[at % len(good) : at % len(good) + len(noise)] = noise
    try:
        size = dbus.size_of(bytes(good[:16]))
        dbus.decode(bytes(good[:size]))
    except ValueError:
        pass


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("unix:path=/run/user/1/bus", "/run/user/1/bus"),
        ("unix:path=/run/a%20b,guid=77", "/run/a b"),
        ("tcp:host=127.0.0.1;unix:abstract=/tmp/x", "\0/tmp/x"),
        ("tcp:host=127.0.0.1", ""),
        ("", ""),
    ],
)
def test_addresses(address: str, path: str) -> None:
    assert dbus.socket_of(address) == path


# --- a server of the test's own ---


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Callable[[Any], str]]:
    """Return a function that lets a thread greet one client and then do as it is told."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "bus"))
    listener.listen()
    threads: list[threading.Thread] = []

    def starts(act: Any, greeting: bytes = b"DATA\r\nOK 1234\r\n") -> str:
        def serve() -> None:
            client, _ = listener.accept()
            with client:
                data = b""
                while not data.endswith(b"BEGIN\r\n"):
                    data += client.recv(4096)
                assert data == b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n"
                client.sendall(greeting)
                act(client)

        threads.append(threading.Thread(target=serve))
        threads[0].start()
        return str(tmp_path / "bus")

    yield starts
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    listener.close()


def received(client: socket.socket) -> Message:
    head = client.recv(16, socket.MSG_WAITALL)
    return dbus.decode(head + client.recv(dbus.size_of(head) - 16, socket.MSG_WAITALL))


def test_signals_between_call_and_answer_are_kept(server: Any) -> None:
    def act(client: socket.socket) -> None:
        asked = received(client)
        removed = reply(
            SIGNAL, 0, "uoss", 5, "/job/5", "x.scope", "done", path="/m", interface="i", member="JobRemoved"
        )
        client.sendall(removed + reply(RETURN, 99) + reply(RETURN, asked.serial, "o", "/job/5"))

    bus = Bus(server(act))
    assert bus.call("StopUnit", "ss", "x.scope", "replace", interface=f"{NAME}.Manager") == ("/job/5",)
    assert bus.signal().body == (5, "/job/5", "x.scope", "done")
    bus.close()


def test_an_error_has_its_name(server: Any) -> None:
    def act(client: socket.socket) -> None:
        asked = received(client)
        client.sendall(reply(ERROR, asked.serial, "s", "Unit x not loaded.", error=f"{NAME}.NoSuchUnit"))

    bus = Bus(server(act))
    with pytest.raises(CallFailed, match="not loaded") as caught:
        bus.call("StopUnit", "ss", "x", "replace", interface=f"{NAME}.Manager")
    assert caught.value.name == f"{NAME}.NoSuchUnit"
    bus.close()


def test_an_older_systemd_complains_of_the_greeting_and_answers(server: Any) -> None:
    def act(client: socket.socket) -> None:
        client.sendall(reply(RETURN, received(client).serial))

    bus = Bus(server(act, greeting=b"OK 1234\r\nERROR\r\n"))
    assert bus.call("Subscribe") == ()
    bus.close()


def test_who_is_refused_is_told(server: Any) -> None:
    path = server(lambda _client: None, greeting=b"REJECTED EXTERNAL\r\n")
    with pytest.raises(Unavailable, match="refused to talk to us: REJECTED"):
        Bus(path)


def test_a_bus_that_goes_away_is_one_line(server: Any) -> None:
    bus = Bus(server(received))
    with pytest.raises(Unavailable, match=r"bus: closed the connection"):
        bus.call("Subscribe")
    bus.close()


def test_a_bus_that_does_not_answer_is_given_up(server: Any) -> None:
    gone = threading.Event()
    bus = Bus(server(lambda _client: gone.wait(10)), seconds=0.05)
    with pytest.raises(Unavailable, match=r"timed out|no answer in time"):
        bus.call("Subscribe")
    gone.set()
    bus.close()


def test_no_bus_at_all(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="No such file or directory"):
        Bus(str(tmp_path / "none"))
