"""The file from which `vx-token print` answers without loading anything else."""

from _collections_abc import Sequence  # as os does: collections.abc would load all of collections

HEADER = "vx-token peek 3"


def render(
    config: tuple[str, str], credentials: tuple[Sequence[str], str], login: str, usable: tuple[float, float], token: str
) -> str:
    """The content of the file.

    Args:
        config: path and stamp of the configuration file.
        credentials: paths and joined stamps of the files that decide the login, the credential file first.
        login: what chose it: `named`, a credential file that the configuration names; `found`, the search of
            Application Default Credentials; `account`, an account of gcloud that the configuration names; `active`,
            gcloud's active account.
        usable: the first and the last instant (epoch seconds) at which `print` may answer from the file.
        token: the bearer token.
    """
    files, stamps = "\0".join(credentials[0]), credentials[1]
    return "\n".join([HEADER, *config, files, stamps, login, *map(repr, usable), token, "end\n"])
