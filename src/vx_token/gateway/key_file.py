"""File name, prefix and size of the local key."""

LOCAL_KEY = "gateway.key"
LOCAL_KEY_PREFIX = "vx-local-"
MAX_BYTES = 8192  # a longer file is not a key file
