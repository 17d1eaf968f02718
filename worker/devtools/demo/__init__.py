"""``reservation-worker demo``: a premiere rush on real servers, audited from outside."""

from worker.devtools.demo.scenario import run_demo

__all__ = ["run_demo"]
