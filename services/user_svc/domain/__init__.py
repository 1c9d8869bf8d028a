"""What user_svc is about: plain values and the rules between them."""
