"""Which reply addresses are used: any queue's name, and of direct reply-to only genuine ones."""

from __future__ import annotations

from base64 import b64encode
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.broker.reply_address import DIRECT_REPLY_TO, reply_address

NAME: Final = b"rabbit@host"
IDS: Final = bytes(range(4, 16))
"""Id, serial and creation of a process; a line feed is among them."""
KEY: Final = b64encode(b"key").decode()


def process(name: bytes = NAME, length: bytes = b"w\x0b", ids: bytes = IDS) -> bytes:
    """A process in Erlang's external format; ``length`` is that of the name, behind its tag."""
    return b"\x83X" + length + name + ids


def direct(pid: bytes | str, key: str = KEY) -> str:
    encoded = pid if isinstance(pid, str) else b64encode(pid).decode()
    return f"{DIRECT_REPLY_TO}.{encoded}.{key}"


@pytest.mark.parametrize("reply_to", [None, ""])
def test_no_address_stays_none(reply_to: str | None) -> None:
    assert reply_address(reply_to) is None


@pytest.mark.parametrize("reply_to", ["q", "amq.gen-x", "amq.rabbitmq.reply", "amq.rabbitmq"])
def test_the_name_of_any_other_queue_is_used_as_it_is(reply_to: str) -> None:
    assert reply_address(reply_to) == reply_to


GENUINE: Final = {
    "a short length": process(),
    "a long length": process(length=b"v\x00\x0b"),
    "a name of 255 bytes": process(b"n" * 255, b"w\xff"),
    "a name of 256 bytes": process(b"n" * 256, b"v\x01\x00"),
    "a line feed in the name": process(b"\nab", b"w\x03"),
    "a line feed for a length": process(b"n" * 10, b"w\n"),
}


@pytest.mark.parametrize("pid", GENUINE.values(), ids=GENUINE)
def test_a_genuine_direct_address_is_used(pid: bytes) -> None:
    assert reply_address(direct(pid)) == direct(pid)


FORGED: Final = {
    "nothing": b"",
    "no version": process()[1:],
    "another version": b"\x82" + process()[1:],
    "an old kind of process": b"\x83g" + process()[2:],
    "another kind of name": process(length=b"d\x00\x0b"),
    "another kind of name with a short length": process(length=b"s\x0b"),
    "a name that is too short": process(NAME[:-1]),
    "a name that is too long": process(NAME + b"x"),
    "a name too short for its long length": process(NAME[:-1], b"v\x00\x0b"),
    "a name too long for its long length": process(NAME + b"x", b"v\x00\x0b"),
    "a length with its bytes swapped": process(length=b"v\x0b\x00"),
    "no name": process(b"", b"w\x00"),
    "ids that are too short": process(ids=IDS[:-1]),
    "ids that are too long": process(ids=IDS + b"x"),
    "something in front of it": b"x" + process(),
}


@pytest.mark.parametrize("pid", FORGED.values(), ids=FORGED)
def test_a_forged_process_is_not_replied_to(pid: bytes) -> None:
    assert reply_address(direct(pid)) is None


ENCODED: Final = b64encode(process()).decode()
MALFORMED: Final = {
    "no process and no key": DIRECT_REPLY_TO,
    "an empty process and key": f"{DIRECT_REPLY_TO}..",
    "no key": f"{DIRECT_REPLY_TO}.{ENCODED}",
    "an empty key": direct(ENCODED, ""),
    "no dot in front of the process": f"{DIRECT_REPLY_TO}{ENCODED}.{KEY}",
    "a process that is not base64": direct("!" + ENCODED),
    "a process cut inside its base64": direct(ENCODED[:-1]),
    "a process that is not ASCII": direct("é" + ENCODED),
    "a key that is not base64": direct(ENCODED, "!" + KEY),
    "a key cut inside its base64": direct(ENCODED, KEY[:-1]),
    "a key that is not ASCII": direct(ENCODED, "é" + KEY),
    "something behind the key": direct(ENCODED, f"{KEY}.{KEY}"),
}


@pytest.mark.parametrize("reply_to", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_direct_address_is_not_replied_to(reply_to: str) -> None:
    assert reply_address(reply_to) is None


@given(st.binary(max_size=40))
def test_only_the_length_of_its_name_makes_a_process_genuine(name: bytes) -> None:
    lengths = [b"w" + bytes([length]) for length in range(50)]
    used = [length[1] for length in lengths if reply_address(direct(process(name, length)))]
    assert used == ([len(name)] if name else [])


@given(st.text(), st.text())
def test_no_text_makes_the_check_raise(pid: str, key: str) -> None:
    assert reply_address(direct(pid, key)) in (None, direct(pid, key))
