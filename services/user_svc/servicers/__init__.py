"""Protobuf in, protobuf out; no logic."""
