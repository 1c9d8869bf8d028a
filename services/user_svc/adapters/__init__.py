"""Cryptography: sealing private keys, signing and publishing."""
