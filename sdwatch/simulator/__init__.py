"""A WebUI that needs no GPU: a real process with a WebUI's HTTP API and drawn pictures.

`python -m sdwatch.simulator --port N`. It shares nothing with the rest of sdwatch, so that a
mistake there cannot hide behind the same mistake here.
"""
