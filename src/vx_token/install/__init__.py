"""Changes to the machine, each with its undo."""
