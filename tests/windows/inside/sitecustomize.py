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
    wine_gaps.send_break_as_c()
    # A new process group ignores Ctrl-C, as on Windows; here it stands for Ctrl-Break.
    ctypes.windll.kernel32.SetConsoleCtrlHandler(None, False)
