"""Where a login is looked for."""

import os
from pathlib import Path

from vx_token.config.model import Profile
from vx_token.credentials import credential_file


def test_credentials_are_looked_for_as_google_does(tmp_path: Path) -> None:
    file = tmp_path / ".config/gcloud/application_default_credentials.json"
    environ = {"HOME": str(tmp_path)}
    assert credential_file.credential_file(Profile("a"), environ) is None
    assert credential_file.credential_files(Profile("a"), environ) == [file]
    file.parent.mkdir(parents=True)
    file.write_text("{}")
    assert credential_file.credential_file(Profile("a"), environ) == file
    environ["GOOGLE_APPLICATION_CREDENTIALS"] = "/adc.json"
    assert credential_file.credential_file(Profile("a"), environ) == Path("/adc.json")
    assert credential_file.credential_file(Profile("a", credentials="/own.json"), environ) == Path("/own.json")
    assert credential_file.credential_files(Profile("a", credentials="/own.json"), environ) == [Path("/own.json")]
    moved = {"CLOUDSDK_CONFIG": os.fspath(tmp_path / "sdk")}
    assert credential_file.credential_files(Profile("a"), moved) == [
        tmp_path / "sdk/application_default_credentials.json"
    ]
