"""What a file of movies may contain, and how its faults are reported."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
from bson import ObjectId

from worker.commands.import_movies import import_movies
from worker.commands.movie_file import ValidMovie, check_movies, movies_in
from worker.errors import BadInput
from worker.settings import Settings

OBJECT_ID: Final = "665f1c2ab4e0a1d2c3b4a596"
HEAT: Final = {"_id": "heat", "timeSlots": [{"id": 1, "capacity": 10}]}
ALIEN: Final = {"_id": "alien", "timeSlots": []}


def imported(*movies: Mapping[str, Any]) -> list[ValidMovie]:
    """The movies of a file of JSON lines."""
    return check_movies(movies_in(lines(*movies)))


def lines(*movies: Mapping[str, Any]) -> bytes:
    return "\n".join(json.dumps(movie) for movie in movies).encode()


def refusal(content: bytes) -> str:
    with pytest.raises(BadInput) as raised:
        check_movies(movies_in(content))
    return str(raised.value)


FORMS: Final = {
    "an array": json.dumps([HEAT, ALIEN]).encode(),
    "an array over several lines": json.dumps([HEAT, ALIEN], indent=2).encode(),
    "JSON lines": lines(HEAT, ALIEN),
    "JSON lines that end with one": lines(HEAT, ALIEN) + b"\n",
    "JSON lines with blank lines": b"\n" + lines(HEAT) + b"\n  \n" + lines(ALIEN) + b"\n\n",
    "JSON lines from Windows": lines(HEAT, ALIEN).replace(b"\n", b"\r\n"),
}


@pytest.mark.parametrize("content", FORMS.values(), ids=FORMS.keys())
def test_every_format_of_a_file_gives_the_same_movies(content: bytes) -> None:
    movies = check_movies(movies_in(content))
    assert [movie.movie_id for movie in movies] == ["heat", "alien"]
    assert list(movies[0].time_slots) == [1]


@pytest.mark.parametrize("indent", [None, 2])
def test_a_file_may_be_a_single_movie(indent: int | None) -> None:
    (movie,) = check_movies(movies_in(json.dumps(HEAT, indent=indent).encode()))
    assert (movie.movie_id, movie.where) == ("heat", "line 1")


def test_only_a_newline_ends_a_line() -> None:
    title = "one\u2028two\x0bthree"
    line = json.dumps({**HEAT, "title": title}, ensure_ascii=False).replace("\x0b", "\\u000b")
    (movie, _) = check_movies(movies_in(line.encode() + b"\n" + lines(ALIEN)))
    assert movie.document["title"] == title


async def refusal_of_file(file: Path) -> str:
    """The error of the command, which reads the file before it connects to MongoDB."""
    with pytest.raises(BadInput) as raised:
        await import_movies(Settings(), str(file))
    return str(raised.value)


async def test_an_unreadable_file_is_refused_with_the_reason(tmp_path: Path) -> None:
    assert "cannot be read: Is a directory" in await refusal_of_file(tmp_path)
    assert "absent cannot be read: No such file" in await refusal_of_file(tmp_path / "absent")


@pytest.mark.parametrize("content", [b"", b" \n", b"\xef\xbb\xbf"])
async def test_an_empty_file_is_refused_with_what_it_takes(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    assert "is empty; give it a JSON array" in await refusal_of_file(tmp_path / "file")


async def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\xef\xbb\xbf" + lines(HEAT) + b"\n5")
    assert (await refusal_of_file(tmp_path / "file")).count("line ") == 1


PLACES: Final = {
    "a line": (lines(HEAT) + b'\n\n{"_id": "jaws"}\n' + lines(ALIEN), "line 3: timeSlots"),
    "a line that is no JSON": (lines(HEAT) + b"\nheat\n" + lines(ALIEN), "line 2: not JSON"),
    "a column of a line": (lines(HEAT) + b'\n{"_id" 1}', "line 2: not JSON: expected `:` at col"),
    "the first line": (b'{"_id": heat}\n' + lines(ALIEN), "line 1: not JSON"),
    "a line that is not UTF-8": (
        lines(HEAT) + b'\n{"_id": "h\xe9"}',
        "line 2: not JSON: invalid u",
    ),
    "a number that JSON does not have": (b'{"_id": "a", "x": NaN}', "not JSON: expected value"),
    "the only line": (b'{"_id": 5}', "line 1: _id"),
    "a movie of an array": (b'[\n{"_id": "a", "timeSlots": []},\n5]', "movie 2 of the array: a mo"),
    "a line of an array": (b'[\n{"_id": "a"},\n{"_id" 5}\n]', "not JSON: expected `:` at line 3"),
    "a line of an object": (b'{\n"_id": "a",\n"timeSlots" 5\n}', "expected `:` at line 3"),
    "an array cut short": (b'[{"_id": "a"}', "the file: not JSON: EOF"),
    "an array that ends like a line": (b'[{"_id": "a"}\n{"_id": "b"}]', "the file: not JSON"),
}


@pytest.mark.parametrize(("content", "expected"), PLACES.values(), ids=PLACES.keys())
def test_a_fault_is_reported_with_its_place(content: bytes, expected: str) -> None:
    assert expected in refusal(content)


FAULTS: Final[dict[str, tuple[object, str]]] = {
    "no object": (5, "a movie must be a JSON object, not 5"),
    "no _id": ({"timeSlots": []}, "_id must be a string of 1 to 64 characters"),
    "an _id that no request can name": ({**HEAT, "_id": "a b"}, 'not "a b"'),
    "an _id that is too long": ({**HEAT, "_id": "a" * 65}, "_id must be"),
    "an _id with a line end": ({**HEAT, "_id": "heat\n"}, "_id must be"),
    "an _id that is a number": ({**HEAT, "_id": 7}, "_id must be"),
    "a short $oid": ({**HEAT, "_id": {"$oid": "665f"}}, "not valid extended JSON"),
    "a bad date": ({**HEAT, "from": {"$date": "soon"}}, "not valid extended JSON"),
    "no time slots": ({"_id": "heat"}, "timeSlots must be a list, if only an empty one, not miss"),
    "time slots that are no list": ({"_id": "heat", "timeSlots": {}}, "timeSlots must be a list"),
    "a time slot that is no object": ({"_id": "a", "timeSlots": [3]}, "number 1 of timeSlots"),
    "a version below 0": ({**HEAT, "version": -1}, "version must be an integer from 0"),
    "a version that is a boolean": ({**HEAT, "version": True}, "version must be an integer from"),
    "an integer beyond BSON": ({**HEAT, "budget": 2**64}, "MongoDB cannot store it"),
    "a name with a NUL": ({**HEAT, "a\0b": 1}, "MongoDB cannot store it"),
    "too many bytes": ({**HEAT, "poster": "x" * (16 << 20)}, "MongoDB stores 16777216 at most"),
}
SLOT_FAULTS: Final[dict[str, tuple[object, str]]] = {
    "no id": ({"capacity": 1}, "the id of number 2 of timeSlots must be an integer from 0 to"),
    "an id that is a string": ({"id": "1", "capacity": 1}, 'not "1"'),
    "an id that is a boolean": ({"id": True, "capacity": 1}, "the id of number 2 of timeSlots"),
    "an id beyond JSON's integers": ({"id": 2**53, "capacity": 1}, "the id of number 2"),
    "no capacity": ({"id": 1}, "time slot 1: capacity must be an integer from 0 to"),
    "a negative capacity": ({"id": 1, "capacity": -1}, "time slot 1: capacity must be"),
    "a fraction": ({"id": 1, "capacity": 2.5}, "time slot 1: capacity must be"),
    "a capacity that is a boolean": ({"id": 1, "capacity": True}, "not true"),
    "bookings that are a boolean": (
        {"id": 1, "capacity": 1, "bookedCount": True},
        "time slot 1: bookedCount must be an integer from 0 to 1, not true",
    ),
    "more bookings than seats": (
        {"id": 1, "capacity": 2, "bookedCount": 3},
        "time slot 1: bookedCount must be an integer from 0 to 2, not 3",
    ),
    "negative bookings": ({"id": 1, "capacity": 2, "bookedCount": -1}, "bookedCount must be"),
    "an id given twice": ({"id": 0, "capacity": 2}, "time slot 0 is given twice"),
}


@pytest.mark.parametrize(("movie", "expected"), FAULTS.values(), ids=FAULTS.keys())
def test_a_faulty_movie_is_refused_with_what_it_takes(movie: object, expected: str) -> None:
    found = refusal(lines(ALIEN) + b"\n" + json.dumps(movie).encode())
    assert found.startswith("nothing was imported:\n  line 2: ")
    assert expected in found


@pytest.mark.parametrize(("slot", "expected"), SLOT_FAULTS.values(), ids=SLOT_FAULTS.keys())
def test_a_faulty_time_slot_is_refused_with_what_it_takes(slot: object, expected: str) -> None:
    movie = {"_id": "heat", "timeSlots": [{"id": 0, "capacity": 1}, slot]}
    assert expected in refusal(lines(movie))


def test_a_movie_given_twice_is_refused_with_both_places() -> None:
    by_name = {"_id": OBJECT_ID, "timeSlots": []}
    by_object_id = {"_id": {"$oid": OBJECT_ID.upper()}, "timeSlots": []}
    found = refusal(lines(by_name, HEAT, by_object_id))
    assert f"line 3: {OBJECT_ID} is in line 1 too" in found


def test_all_faults_are_reported_up_to_a_screenful() -> None:
    found = refusal(b"\n".join([b'{"_id" 1}', *[b"no movie"] * 30]))
    assert "line 1: " in found
    assert "line 20: " in found
    assert "line 21: " not in found
    assert found.endswith("and 11 more")


def test_a_value_nested_too_deeply_for_mongodb_is_refused() -> None:
    value = b'{"a":' * 101 + b"1" + b"}" * 101
    found = refusal(b'{"_id": "heat", "timeSlots": [], "x": ' + value + b"}")
    assert "nested more than 100 levels deep" in found


def test_a_new_movie_starts_unbooked_at_version_0() -> None:
    (movie,) = imported(HEAT)
    assert movie.document == {
        "_id": "heat",
        "version": 0,
        "timeSlots": [{"id": 1, "capacity": 10, "bookedCount": 0}],
    }


def test_a_new_movie_keeps_its_given_version_and_bookings() -> None:
    given_slot = {"id": 1, "capacity": 10, "bookedCount": 10}
    (movie,) = imported({"_id": "heat", "version": 7, "timeSlots": [given_slot]})
    assert movie.document == {"_id": "heat", "version": 7, "timeSlots": [given_slot]}


def test_other_fields_are_stored_as_extended_json_types_them() -> None:
    (movie,) = imported(
        {
            "_id": {"$oid": OBJECT_ID},
            "title": "Heat",
            "released": {"$date": "1995-12-15T00:00:00Z"},
            "timeSlots": [{"id": {"$numberInt": "1"}, "capacity": 5, "hall": {"name": "A"}}],
        }
    )
    assert movie.movie_id == OBJECT_ID
    assert movie.document["_id"] == ObjectId(OBJECT_ID)
    assert movie.document["title"] == "Heat"
    assert movie.document["released"] == datetime(1995, 12, 15, tzinfo=UTC)
    assert movie.document["timeSlots"][0]["hall"] == {"name": "A"}
    assert list(movie.time_slots) == [1]
