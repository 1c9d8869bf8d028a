"""Business logic: authorize, load, decide, save, commit."""
