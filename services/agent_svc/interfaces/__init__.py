"""What the managers need from outside, as Protocols named by role."""
