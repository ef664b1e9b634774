"""Messages to people who are away: to whom, when, and what they say. Pure."""
