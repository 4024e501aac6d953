"""Paths, private files, atomic writes, locks, the clock and the log: what the operating system provides."""
