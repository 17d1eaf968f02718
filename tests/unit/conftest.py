"""Fixtures of the unit tests."""

from __future__ import annotations

import pytest

from tests.unit.fakes import VirtualTime


@pytest.fixture
def virtual_time(monkeypatch: pytest.MonkeyPatch) -> VirtualTime:
    """Time that passes only while somebody sleeps."""
    return VirtualTime.instead_of_real(monkeypatch)
