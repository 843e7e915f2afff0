"""Which rules are those of a pod: as iptables prints them."""

from __future__ import annotations

from pyrkt.net.rules import _of_pod

UUID = "d5c318cb-0d73-4624-bd18-7b1af45ab433"
CHAIN = "CNI-63f8e120fcaac3863abfc998"
COMMENT = f'-m comment --comment "name: \\"default\\" id: \\"{UUID}\\""'
LISTED = f"""-P POSTROUTING ACCEPT
-A POSTROUTING -m comment --comment "CNI portfwd requiring masquerade" -j CNI-HOSTPORT-MASQ
-A POSTROUTING -s 172.16.28.2/32 {COMMENT} -j {CHAIN}
-A POSTROUTING -s 172.16.28.3/32 {COMMENT.replace("d5c3", "0000")} -j CNI-000000000000000000000000
-A POSTROUTING -s 172.16.28.4/32 {COMMENT} -j MASQUERADE
"""


def test_the_rule_of_a_pod_and_its_chain() -> None:
    comment = f'name: "default" id: "{UUID}"'
    rule = ("POSTROUTING", "-s", "172.16.28.2/32", "-m", "comment", "--comment", comment, "-j", CHAIN)
    other = ("POSTROUTING", "-s", "172.16.28.4/32", "-m", "comment", "--comment", comment, "-j", "MASQUERADE")
    assert _of_pod(LISTED, UUID) == [(rule, CHAIN), (other, "")]
    assert _of_pod("", UUID) == []
