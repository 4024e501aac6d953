"""The file from which `vx-token print` answers without loading anything else."""

HEADER = "vx-token peek 3"


def render(
    config: tuple[str, str], credentials: tuple[str, str], named: bool, usable: tuple[float, float], token: str
) -> str:
    """The content of the file.

    Args:
        config: path and stamp of the configuration file.
        credentials: path and stamp of the credential file.
        named: whether the configuration names the credential file, so that no variable can name another.
        usable: the first and the last instant (epoch seconds) at which `print` may answer from the file.
        token: the bearer token.
    """
    return "\n".join([HEADER, *config, *credentials, "named" if named else "found", *map(repr, usable), token, "end\n"])
