"""How a Hearth service runs: server, errors, identity, database, channels. No product nouns live here."""

import os

# Services fork only to execute another program. gRPC's own preparations for a fork start its threads again in the child,
# where they crashed now and then before the program was executed: it then looked as if that had died (SIGSEGV).
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

# gRPC's core writes log lines of its own, which are not JSON, and reads this when it is imported. What matters of them
# comes as exceptions too.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
