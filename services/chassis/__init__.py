"""How a Hearth service runs: server, errors, identity, database, channels. No product nouns live here."""
