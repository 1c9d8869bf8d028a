"""How Hearth runs: the local runner, the Envoy configuration, the image."""
