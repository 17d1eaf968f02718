"""The books: what the movies, the ledger and the opening balances say about seats, held together.

    violations      a promise that is not kept, in one line
    entries         what must be true of a ledger entry by itself
    movies          what a stored movie says, whoever wrote it
    reconciliation  each movie beside the entries that made it what it is
    audit           `audit`: tells what does not hold
    adoption        `movies adopt`: records what was booked before the worker came

Shares no code with the decisions that it audits, on purpose: it reads documents and counts.
"""
