"""MongoDB: the movies, the ledger and the commit. The only package that imports its driver.

    store            reads what a batch needs, and commits what was decided
    documents        the shapes of the stored documents, and the updates of movies
    movie_changes    what an import writes to the movies
    ledger           recorded outcomes, for the commands that publish them again
    audit            movies, ledger entries and opening balances, for an audit
    scan             the database as it is opened to read all of it
    preparation      what a start requires or creates: transactions, collections, the validator
    privileges       what the user of MongoDB must be allowed to do
    client           a client for a URI, with no password in its errors
    driver_failures  the driver's exceptions as the project's errors
    abandoned        the transactions that dead workers left open

Refuses to know why a request was confirmed, what is retried, and that there is a broker. Importing
the package loads no driver; its modules do.
"""
