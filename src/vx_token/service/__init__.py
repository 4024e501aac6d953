"""The program as a service of the user's own: systemd, launchd, and what they are told."""
