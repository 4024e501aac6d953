"""An edit of a file of the user's that fails leaves nothing behind."""

from pathlib import Path

import pytest

from vx_token.errors import ConfigError
from vx_token.system.file_edit import EditFile


def test_a_file_that_cannot_be_written_leaves_no_new_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "newer" / ("x" * 250)  # the temporary file's name is too long
    with pytest.raises(ConfigError, match="cannot change"):
        EditFile(path, None, b"text").perform()
    assert list(tmp_path.iterdir()) == []
