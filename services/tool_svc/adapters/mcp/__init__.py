"""Connections to MCP servers, over streamable HTTP and over the pipes of confined processes.

The official SDK speaks the protocol. It takes a second and 55 MB to import, so that happens when the first server is
used, in a thread. What it does not bound is bounded here: bytes and lines that a server may send, time, addresses.
"""
