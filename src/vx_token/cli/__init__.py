"""The command line: options, printed output and exit statuses, without logic."""
