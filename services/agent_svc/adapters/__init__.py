"""Implementations of interfaces that speak to NATS and to model providers."""
