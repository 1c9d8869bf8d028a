"""Other services as agent_svc sees them."""
