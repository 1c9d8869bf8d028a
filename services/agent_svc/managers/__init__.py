"""What agent_svc does: the catalogue, runs, the worker with its loop, and watching."""
