"""OpenID Connect: reading the keys of external issuers, and verifying what they signed."""
