"""Runs at the start of every Python that has this folder on its path: imitations, and under wine
what wine lacks."""

import sys

import imitations

imitations.begin()

if sys.platform == "win32":
    import ctypes

    import wine_gaps

    wine_gaps.note_listeners()
    wine_gaps.take_long_final_paths()
    # wine's console knows no Ctrl-Break and delivers Ctrl-C in its place, which a new process
    # group ignores, as on Windows.
    ctypes.windll.kernel32.SetConsoleCtrlHandler(None, False)
