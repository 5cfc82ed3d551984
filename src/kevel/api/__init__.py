"""The HTTP APIs. Each folder is one: a table of operations (data), the views that shape answers, the handlers.

`operations` says what an operation is, `dispatch` carries one request through the table, `app` joins the APIs.
"""
