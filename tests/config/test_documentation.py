"""docs/configuration.md and docs/troubleshooting.md say what the program does, name for name."""

import re
import tomllib
from pathlib import Path

from sandbox import REPOSITORY
from vx_token.config import load, presets, templates
from vx_token.config.load import parse_config

DOCS = REPOSITORY / "docs"
CONFIGURATION = (DOCS / "configuration.md").read_text(encoding="utf-8")


def rows(heading: str) -> dict[str, str]:
    """The first cells of the table below a heading, without backquotes, with the rest of each row."""
    section = CONFIGURATION.split(f"\n{heading}\n")[1].split("\n#")[0]
    return dict(re.findall(r"^\| `([^`]+)`[^|]*\|(.*)\|$", section, re.MULTILINE))


def test_every_key_is_told_and_no_other() -> None:
    assert list(rows("### `[profiles.NAME]`")) == list(load.PROFILE_KEYS)
    assert list(rows("### `[gateway]`")) == list(load.GATEWAY_KEYS)
    assert list(rows("### `[[profiles.NAME.files]]`")) == [*load.FILE_KEYS, *templates.FORMATS]


def test_every_field_of_a_template_is_told() -> None:
    told = re.search(r"^\| a template \|.*$", CONFIGURATION, re.MULTILINE)
    assert told
    assert tuple(re.findall(r"`\{(\w+)\}`", told[0])) == templates.FIELDS


def test_every_preset_is_told_with_what_it_exports() -> None:
    told = {name: tuple(re.findall(r"`([^`]+)`", rest)) for name, rest in rows("### `export`").items()}
    assert told == dict(presets.PRESETS)
    assert all(f"`{name}`" in CONFIGURATION for name in presets.FORBIDDEN)


def test_every_example_is_a_good_configuration() -> None:
    examples = re.findall(r"```toml\n(.*?)```", CONFIGURATION, re.DOTALL)
    assert len(examples) == 3
    for text in examples:
        assert (
            parse_config(text, Path("config.toml"), {"HOME": "/"}, {}, Path("/")).profiles.keys()
            == tomllib.loads(text)["profiles"].keys()
        )


def test_every_configuration_among_the_examples_is_a_good_one() -> None:
    files = sorted((REPOSITORY / "examples").rglob("*.toml"))
    texts = [path.read_text(encoding="utf-8") for path in files]
    for manifest in sorted((REPOSITORY / "examples").rglob("configmap.yaml")):
        block = re.search(r"(?m)^  config\.toml: \|\n((?:    .*\n)+)", manifest.read_text(encoding="utf-8"))
        assert block, manifest
        texts.append(block[1].replace("\n    ", "\n").removeprefix("    "))
    assert len(texts) >= 3
    for text in texts:
        assert parse_config(text, Path("/etc/vx-token/config.toml"), {"HOME": "/"}, {}, Path("/")).profiles


def test_every_recipe_for_commands_is_a_good_configuration() -> None:
    recipes = re.findall(r"```toml\n(.*?)```", (DOCS / "scripts.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(recipes) == 4
    for text in recipes:
        whole = text if "[profiles" in text else f'[profiles.gemini]\nproject = "p"\n{text}'
        profile = parse_config(whole, Path("config.toml"), {"HOME": "/"}, {}, Path("/")).profile("gemini")
        assert profile.on_refresh or profile.on_login_needed


def test_every_message_in_a_heading_is_one_that_the_program_says() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "src/vx_token").rglob("*.py"))
    headings = re.findall(
        r"^## `vx-token: ([^`…(]+)", (DOCS / "troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(headings) == 3
    assert all(heading.strip() in source for heading in headings)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_links_between_the_pages_lead_to_a_page_and_a_heading() -> None:
    for page in [*DOCS.glob("*.md"), REPOSITORY / "README.md", REPOSITORY / "SECURITY.md"]:
        for name, anchor in re.findall(r"\]\(([\w./-]*\.md|)(?:#([\w-]+))?\)", page.read_text(encoding="utf-8")):
            target = page.parent / name if name else page
            assert target.exists(), f"{page.name} -> {name}"
            assert not anchor or anchor in anchors(target), f"{page.name} -> {name}#{anchor}"


def test_each_page_has_one_place_in_the_sites_navigation() -> None:
    listed = re.findall(r"^ +- (?:[\w ]+: )?(\S+\.md)$", (REPOSITORY / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(page.name for page in DOCS.glob("*.md"))


def test_no_line_of_a_page_is_too_long_to_read_beside_others() -> None:
    """A hundred and twenty characters, tables aside."""
    for page in [*DOCS.glob("*.md"), REPOSITORY / "README.md"]:
        for line in page.read_text(encoding="utf-8").splitlines():
            assert len(line) <= 120 or line.startswith("|"), f"{page.name}: {line}"
