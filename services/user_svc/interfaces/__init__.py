"""What managers need, named by role."""
