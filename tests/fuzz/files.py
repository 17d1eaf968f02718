"""A file of movies as an import reads it: any content is valid movies or a list of faults."""

from __future__ import annotations

from typing import Final

import bson

from worker.commands.movie_file import PROBLEMS_SHOWN_MAX, check_movies, movies_in
from worker.errors import BadInput

LINE_CHARACTERS_MAX: Final = 600
"""The longest line about a fault; quoted values are truncated."""


def movies(data: bytes) -> None:
    """Every valid movie can be stored, and every fault is reported in one line."""
    if not data.strip():
        return  # An empty file is refused before it is parsed.
    try:
        valid = check_movies(movies_in(data))
    except BadInput as faults:
        lines = str(faults).split("\n")
        assert 2 <= len(lines) <= PROBLEMS_SHOWN_MAX + 2
        assert all(len(line) <= LINE_CHARACTERS_MAX for line in lines), lines
        return
    for movie in valid:
        assert bson.encode(movie.document)
        for number, slot in movie.time_slots.items():
            assert slot["id"] == number
            assert 0 <= slot["bookedCount"] <= slot["capacity"] < 2**53
