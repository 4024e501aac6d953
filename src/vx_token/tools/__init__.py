"""Other programs' settings: connect one to vx-token, list them, undo."""
