"""The minimum remaining lifetime of a token that is returned without a refresh."""

DEFAULT_MIN_TTL = 300.0


def required_life(min_ttl: float, lifetime: float) -> float:
    """Return the minimum remaining lifetime (seconds) of a token that is returned without a refresh.

    If a source's tokens never live as long as `min_ttl`, that is half of their `lifetime`, so that not every call
    refreshes.
    """
    return min_ttl if min_ttl <= 0.9 * lifetime else 0.5 * lifetime
