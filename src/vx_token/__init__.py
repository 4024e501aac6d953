"""Keeps a live Google access token where OpenAI-based tools look for their key."""

__version__ = "0.1.0"
