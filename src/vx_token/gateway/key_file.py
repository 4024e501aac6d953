"""The name and the form of the local key."""

LOCAL_KEY = "gateway.key"
LOCAL_KEY_PREFIX = "vx-local-"
