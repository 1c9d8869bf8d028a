"""The egress proxy: the service makes a tool's connections, because the tool's own process cannot make any."""
