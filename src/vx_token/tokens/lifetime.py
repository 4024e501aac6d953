"""How much remaining lifetime a token needs."""

DEFAULT_MIN_TTL = 300.0


def required_life(min_ttl: float, lifetime: float) -> float:
    """Seconds of life a token must have left to be handed out without asking Google first.

    A source whose tokens never live as long as `min_ttl` is asked at half of what it gives, not at every call.
    """
    return min_ttl if min_ttl <= 0.9 * lifetime else 0.5 * lifetime
