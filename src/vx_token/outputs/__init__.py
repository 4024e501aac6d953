"""What tools read."""
