"""File name and prefix of the local key."""

LOCAL_KEY = "gateway.key"
LOCAL_KEY_PREFIX = "vx-local-"
