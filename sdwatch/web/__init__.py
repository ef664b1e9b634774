"""The live page and the metrics: another client of the folder, in a process of its own.

Nothing else imports this package but cli/web.py, and the monitor imports none of it. Only `app`,
`page_server` and what they import need the packages of the extra `[web]`.
"""
