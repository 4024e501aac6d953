"""The background process: keepers, the file watcher, user commands and the notices to systemd."""
