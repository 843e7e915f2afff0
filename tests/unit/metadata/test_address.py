"""Addresses, ports and tokens of pods."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrkt.metadata import token
from pyrkt.metadata.address import address, port, url

NIL = "00000000-0000-0000-0000-000000000000"


@given(st.uuids())
def test_each_text_has_one_length_and_its_range(uuid: object) -> None:
    found = address(str(uuid))
    assert len(found) == 15
    assert ipaddress.IPv4Address(found) in ipaddress.IPv4Network("127.0.0.0/8")
    assert all(101 <= int(part) <= 254 for part in found.split(".")[1:])
    assert 18112 <= port(str(uuid), host_network=True) < 28112
    assert port(str(uuid), host_network=False) == 18112


def test_the_borders() -> None:
    last = f"{NIL[:-6]}{154**3 - 1:06x}"
    assert (address(NIL), address(last)) == ("127.101.101.101", "127.254.254.254")


def test_pods_that_differ_have_addresses_that_differ() -> None:
    made = {(address(uuid), port(uuid, host_network=True)) for uuid in (f"{NIL[:-4]}{n:04x}" for n in range(1000))}
    assert len(made) == 1000


def test_tokens_are_128_bits_and_new() -> None:
    made = {token.new() for _ in range(50)}
    assert len(made) == 50
    assert {len(bytes.fromhex(each)) for each in made} == {16}
    assert len(token.NOBODYS) == len(token.new())


@pytest.mark.parametrize(("host", "expected"), [(False, "18112"), (True, "18114")])
def test_the_url(host: bool, expected: str) -> None:
    uuid = f"{NIL[:-7]}{154**3 * 2:07x}"
    assert url(uuid, token.NOBODYS, host_network=host) == f"http://127.101.101.101:{expected}/{token.NOBODYS}"
