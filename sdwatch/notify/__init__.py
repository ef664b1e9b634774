"""Send messages to people, each from a process of its own that is killed if it takes too long."""
