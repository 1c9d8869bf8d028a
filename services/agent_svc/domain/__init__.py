"""Values and pure rules of agents, conversations and runs."""
