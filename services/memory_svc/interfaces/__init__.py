"""The roles that the managers need filled, as Protocols."""
