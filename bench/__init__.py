"""Load benchmarks: each script starts its own stack, prints a table, and with --json FILE writes its figures."""
