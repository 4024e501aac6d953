"""The reports of the commands `status` and `doctor`."""
