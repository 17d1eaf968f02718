"""A file of movies: the formats that it may have, and the rules for each movie in it.

Knows neither what is stored nor what an import does with the movies.
"""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic_core import from_json, to_json

from worker.commands.terminal import listed
from worker.errors import BadInput
from worker.store.documents import Document
from worker.store.movie_changes import decode_extended_json, movie_id_of, one_line, require_storable

STANDARD_INPUT: Final = "-"
WHOLE_NUMBER_MAX: Final = 2**53 - 1
"""The largest integer that every JSON implementation holds exactly (RFC 8259, section 6)."""
PROBLEMS_SHOWN_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class ValidMovie:
    """A movie that satisfies every rule, ``where`` it was found, and its document if it is new."""

    where: str
    movie_id: str
    document: Document
    time_slots: Mapping[int, Document]


def read_file(file: str) -> bytes:
    """The content of a file or of standard input; raises BadInput if there is none."""
    shown = "standard input" if file == STANDARD_INPUT else file
    try:
        content = sys.stdin.buffer.read() if file == STANDARD_INPUT else Path(file).read_bytes()
    except OSError as failure:
        raise BadInput(f"{shown} cannot be read: {failure.strerror or failure}") from failure
    content = content.removeprefix(codecs.BOM_UTF8)
    if not content.strip():
        raise BadInput(f"{shown} is empty; give it a JSON array of movies, or a movie on each line")
    return content


def movies_in(content: bytes) -> list[tuple[str, object]]:
    """The values of a JSON array, of JSON lines or of a single object, each with its place.

    Never raises: a BadInput takes the place of what is not JSON. A faulty file is taken for JSON
    lines if its first line ends an object, otherwise for one value over several lines.
    """
    value = _json(content)
    if isinstance(value, list):
        return [(f"movie {number} of the array", movie) for number, movie in enumerate(value, 1)]
    lines = [(number, line) for number, line in enumerate(content.split(b"\n"), 1) if line.strip()]
    first_number, first = lines[0]
    if not isinstance(value, BadInput):
        return [(f"line {first_number}", value)]
    if first.lstrip().startswith(b"[") or not first.rstrip().endswith(b"}"):
        return [("the file", value)]
    return [(f"line {number}", _json(line)) for number, line in lines]


def _json(text: bytes) -> object:
    """The value, or a BadInput that says why it is not JSON."""
    try:
        return from_json(text, allow_inf_nan=False)
    except ValueError as fault:
        place = str(fault) if b"\n" in text else str(fault).replace("line 1 ", "")
        return BadInput(f"not JSON: {place}")


def check_movies(values: Iterable[tuple[str, object]]) -> list[ValidMovie]:
    """The movies, if all are valid; raises BadInput that lists every problem with its place."""
    movies: dict[str, ValidMovie] = {}
    problems = []
    for where, value in values:
        try:
            movie = _checked(where, value)
        except BadInput as fault:
            problems.append(f"{where}: {fault}")
            continue
        first = movies.setdefault(movie.movie_id, movie)
        if first is not movie:
            problems.append(f"{where}: {movie.movie_id} is in {first.where} too; give it once")
    if problems:
        raise BadInput(listed("nothing was imported:", problems, PROBLEMS_SHOWN_MAX))
    return list(movies.values())


def _checked(where: str, value: object) -> ValidMovie:
    if isinstance(value, BadInput):
        raise value
    movie = decode_extended_json(value)
    if not isinstance(movie, dict):
        raise BadInput(f"a movie must be a JSON object, not {_shown(value)}")
    movie_id = movie_id_of(movie.get("_id"))
    if movie_id is None:
        raise BadInput(
            "_id must be a string of 1 to 64 characters of A-Z a-z 0-9 _ - or "
            f'{{"$oid": "24 hexadecimal digits"}}, not {_shown(movie.get("_id"))}'
        )
    given = movie.get("timeSlots")
    if not isinstance(given, list):
        raise BadInput(f"timeSlots must be a list, if only an empty one, not {_shown(given)}")
    time_slots: dict[int, Document] = {}
    for number, slot in enumerate(given, 1):
        checked = _checked_time_slot(number, slot)
        if time_slots.setdefault(checked["id"], checked) is not checked:
            raise BadInput(f"time slot {checked['id']} is given twice; give each an id of its own")
    version = _whole_number("version", movie.get("version", 0))
    document = {**movie, "version": version, "timeSlots": list(time_slots.values())}
    require_storable(document)
    return ValidMovie(where, movie_id, document, time_slots)


def _checked_time_slot(number: int, slot: object) -> Document:
    if not isinstance(slot, dict):
        raise BadInput(f"number {number} of timeSlots must be an object, not {_shown(slot)}")
    time_slot_id = _whole_number(f"the id of number {number} of timeSlots", slot.get("id"))
    name = f"time slot {time_slot_id}"
    capacity = _whole_number(f"{name}: capacity", slot.get("capacity"))
    booked = _whole_number(f"{name}: bookedCount", slot.get("bookedCount", 0), capacity)
    return {**slot, "bookedCount": booked}


def _whole_number(name: str, value: object, most: int = WHOLE_NUMBER_MAX) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise BadInput(f"{name} must be an integer from 0 to {most}, not {_shown(value)}")
    return value


def _shown(value: object) -> str:
    return "missing" if value is None else one_line(to_json(value, fallback=str).decode())
