"""The loopback gateway: a reverse proxy that puts the Google token of the moment in."""
