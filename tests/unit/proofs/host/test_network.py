"""What changed between two looks at a process's network."""

from __future__ import annotations

from proofs.host import network

LOOK = """/proc/7/stat:7 (a (b) c) S 1 7 7 0 -1 4194304 3500 {faults} 2 0 80 12
/proc/7/net/dev:Inter-|   Receive                                                |  Transmit
/proc/7/net/dev:    lo:       0       {packets}    0
/proc/7/net/snmp:Tcp: RtoAlgorithm ActiveOpens
/proc/7/net/snmp:Tcp: 1 {opens}
/proc/7/net/snmp6:Udp6OutDatagrams                \t{datagrams}
/proc/7/net/tcp:  sl  local_address
/proc/7/net/unix:Num       RefCount
"""
FIRST = LOOK.format(faults=44, packets=0, opens=0, datagrams=3)


def test_counters_that_grew() -> None:
    last = LOOK.format(faults=44, packets=2, opens=1, datagrams=4)
    assert network.growth(FIRST, FIRST) == {}
    assert network.growth(FIRST, last) == {"lo 1": 2, "Tcp ActiveOpens": 1, "Udp6OutDatagrams 0": 1}


def test_looks_without_counters_are_no_quiet_network() -> None:
    assert network.growth(FIRST, "") == {"looks without a counter": 1}
    assert network.growth("", "") == {"looks without a counter": 2}


def test_sockets_are_lines_below_the_headings() -> None:
    more = "/proc/7/net/tcp:  0: 0100007F:1F90\n/proc/7/net/unix:001: 2 0 0 1 1 11 /run/x\n"
    assert network.sockets(FIRST) == []
    assert network.sockets(FIRST + more) == ["tcp: 0: 0100007F:1F90", "unix: 001: 2 0 0 1 1 11 /run/x"]


def test_children_that_ended_and_that_are_there() -> None:
    last = LOOK.format(faults=84, packets=0, opens=0, datagrams=3)
    assert network.children(FIRST, FIRST) == 0
    assert network.children(FIRST, last) == 40
    assert network.children(FIRST, FIRST + "/proc/7/task/8/children:33 34 \n") == 2
