"""`audit` and `movies adopt`: what the movies, the ledger and the opening balances say about seats.

    violations      an invariant that does not hold, in one line
    entries         what must be true of a ledger entry by itself
    movies          what a stored movie says, whoever wrote it
    reconciliation  each movie beside the entries that made it what it is
    findings        `audit`: reports what does not hold
    adoption        `movies adopt`: records what was booked before the worker came
    progress        what both commands have in common: their start, and a progress bar

Shares no code with the decisions that it audits, on purpose: it reads documents and counts.
Refuses to repair anything.
"""
