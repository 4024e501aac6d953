"""Installation: setup, service units and shell start-up files; every change has an undo."""
