"""What a request comes to: the rules, as pure functions, and the values that they decide about.

    decision   the rule that decides, and what it comes to: outcomes and bookings
    snapshot   what was read before it: movies, their time slots, and the ledger

Imports the contracts and nothing else. Refuses to know where movies and requests come from, where
outcomes go, what time it is, and that anything could fail.
"""
