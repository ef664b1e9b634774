"""One run: its calls in order, and how it ends."""
