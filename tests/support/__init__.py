"""What tests of the whole stack share."""
