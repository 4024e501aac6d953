"""A token's life."""
