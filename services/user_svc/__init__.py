"""user_svc: organizations, users, API keys and the tokens that every other service trusts."""
