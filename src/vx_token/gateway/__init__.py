"""The loopback gateway: a reverse proxy that adds the current Google token to each request."""
