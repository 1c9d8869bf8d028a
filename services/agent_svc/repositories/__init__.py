"""Where agent_svc keeps its data: the catalogue through SQLAlchemy, the log of conversations through plain psycopg."""
