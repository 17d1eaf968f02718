"""Dead letters: what could not be decided, for an operator to look at, send back or drop.

reading         what a dead letter is about, and which dead letters are selected
showing         `dead-letters list` and `show`
redriving       `dead-letters redrive`
dropping        `dead-letters drop`
"""
