"""gcloud's own files, in the form that gcloud 528 writes them."""

from pathlib import Path

import pytest

from vx_token.credentials import gcloud
from vx_token.credentials.gcloud import Active

DEFAULT = "[core]\naccount = me@example.com\nproject = first-project\n\n"
WORK = "[core]\nproject = work-project\n\n[ai]\nregion = europe-west4\n\n[compute]\nregion = us-east1\n\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "configurations").mkdir()
    (tmp_path / "configurations/config_default").write_text(DEFAULT)
    (tmp_path / "configurations/config_work").write_text(WORK)
    return tmp_path


def active(folder: Path, **environ: str) -> Active:
    return gcloud.active({"CLOUDSDK_CONFIG": str(folder), **environ})


def test_the_default_configuration_is_active_unless_another_was_activated(folder: Path) -> None:
    assert active(folder) == Active("default", "first-project", "", "me@example.com")
    (folder / "active_config").write_text("work")  # gcloud writes no newline
    assert active(folder) == Active("work", "work-project", "europe-west4")


def test_the_environment_beats_the_files(folder: Path) -> None:
    (folder / "active_config").write_text("default")
    assert active(folder, CLOUDSDK_ACTIVE_CONFIG_NAME="work").project == "work-project"
    assert active(folder, CLOUDSDK_CORE_PROJECT="mine", CLOUDSDK_AI_REGION="us-central1") == Active(
        "default", "mine", "us-central1", "me@example.com"
    )
    assert active(folder, CLOUDSDK_CORE_ACCOUNT="other@example.com").account == "other@example.com"


def test_an_account_of_another_universe_has_its_name(folder: Path) -> None:
    text = "[core]\naccount = me@example.com\nuniverse_domain = apis.example\n"
    (folder / "configurations/config_default").write_text(text)
    assert active(folder).account == "me@example.com#apis.example"
    assert active(folder, CLOUDSDK_CORE_UNIVERSE_DOMAIN="googleapis.com").account == "me@example.com"


@pytest.mark.parametrize("name", ["NONE", "missing", "../../etc/passwd", "Work"])
def test_a_configuration_that_is_not_there_says_nothing(folder: Path, name: str) -> None:
    assert active(folder, CLOUDSDK_ACTIVE_CONFIG_NAME=name) == Active(name, "", "")


@pytest.mark.parametrize("content", [b"", b"project = x\n", b"[core\n", b"\xff\xfe\x00", b"[core]\nproject = 100%\n"])
def test_a_file_of_any_content_raises_nothing(folder: Path, content: bytes) -> None:
    (folder / "configurations/config_default").write_bytes(content)
    assert active(folder).project in ("", "100%")


def test_the_folder_is_the_one_in_the_home_by_default(tmp_path: Path) -> None:
    configurations = tmp_path / ".config/gcloud/configurations"
    configurations.mkdir(parents=True)
    (configurations / "config_default").write_text(DEFAULT)
    assert gcloud.active({"HOME": str(tmp_path)}).project == "first-project"
