"""The error that ends a benchmark."""

from __future__ import annotations


class BenchmarkFailed(Exception):
    """A contestant did not do what it was asked to do, so its figures mean nothing."""
