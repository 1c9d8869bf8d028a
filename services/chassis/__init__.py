"""How a Hearth service runs: server, errors, identity, database, channels. No product nouns live here."""

import os

# gRPC's core writes log lines of its own, which are not JSON, and reads this when it is imported. What matters of them
# comes as exceptions too.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
