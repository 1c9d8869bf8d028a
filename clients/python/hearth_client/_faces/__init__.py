"""The domain-grouped faces of a client: thin, typed, each over one or two services."""
