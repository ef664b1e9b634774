"""Runs at the start of every Python that has this folder on its path: imitations, and under wine
what wine lacks."""

import sys

import imitations

imitations.begin()

if sys.platform == "win32":
    import ctypes

    import wine_gaps

    wine_gaps.note_listeners()
    wine_gaps.see_resets()
    wine_gaps.take_long_final_paths()
    wine_gaps.send_break_as_c()
    wine_gaps.keep_settings_of_services()
    wine_gaps.notice_dead_services()
    # A new process group ignores Ctrl-C, as on Windows; here it stands for Ctrl-Break.
    ctypes.windll.kernel32.SetConsoleCtrlHandler(None, False)
