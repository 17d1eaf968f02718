"""`audit` and `movies adopt`: whether movies, ledger and opening balances agree about seats.

    violations      an invariant that does not hold, in one line
    entries         what must be true of a ledger entry by itself
    movies          a stored movie, which any program may have written
    reconciliation  each movie against the ledger entries that account for its bookings
    findings        `audit`: reports every violation
    adoption        `movies adopt`: records what was booked before the worker was introduced
    progress        what both commands share: the first check, and a progress bar

Shares no code with the decisions that it audits, on purpose: it reads documents and counts. Refuses
to know how a request is decided, and to repair anything.
"""
