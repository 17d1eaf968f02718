"""``reservation-worker demo``: a premiere rush on real servers, audited from outside.

    scenario          the demo from start to end
    workload          the movies, and the requests of the rush
    worker_processes  the workers, one of which is killed
    screen            the live picture of the rush
    verdict           the table of what the auditor found

Refuses to know how the workers decide: it sees only what any publisher, subscriber and reader of
the database can see, and the log lines that it counts.
"""

from worker.devtools.demo.scenario import run_demo

__all__ = ["run_demo"]
