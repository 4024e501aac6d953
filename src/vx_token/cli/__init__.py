"""The command line: what the options are called and what is printed, no logic."""
