"""Breaks everything that vx-token depends on, and measures what that costs its user; see scripts/prove-reliability."""
