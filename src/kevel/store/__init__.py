"""Tables, migrations and transactions. Nothing above this package knows SQL.

A transaction is a plain synchronous function `fn(tx, ...)`: ids and times are its arguments, it has no effect but on
the database, it catches no constraint error to go on, and its wake-ups are values (`tx.wake`) that are published after
the commit. So it can be run again.
"""
