"""What the service does, one aggregate each. Only managers commit."""
