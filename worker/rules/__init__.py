"""What a request comes to: the rules, as pure functions, and the values that they decide about.

Imports the contracts and nothing else. Refuses to know where movies and requests come from, where
outcomes go, what time it is, and that anything could fail.
"""
