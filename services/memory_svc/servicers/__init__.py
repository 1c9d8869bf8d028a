"""Protobuf to domain and back; no logic."""
