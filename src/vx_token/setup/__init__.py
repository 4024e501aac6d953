"""From nothing to a working vx-token, and back."""
