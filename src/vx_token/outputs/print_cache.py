"""The file from which `vx-token print` answers without loading anything else."""

HEADER = "vx-token peek 2"


def render(
    config: tuple[str, str], credentials: tuple[str, str], named: bool, life: tuple[float, float], token: str
) -> str:
    """The file that `answer` reads: path and stamp of what the token was made from, its life, and the token.

    `named` tells that the configuration names the credentials, so that no variable can mean others.
    """
    return "\n".join([HEADER, *config, *credentials, "named" if named else "found", *map(repr, life), token, "end\n"])
