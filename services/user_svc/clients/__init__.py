"""The other services as user_svc sees them."""
