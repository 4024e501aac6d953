"""Keeps a profile's output files in line with its state."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vx_token.config.model import Config, Profile
from vx_token.errors import ConfigError
from vx_token.outputs import files
from vx_token.outputs.exports import gateway_urls
from vx_token.outputs.files import Snapshot
from vx_token.outputs.template_files import TemplateFiles, record_file
from vx_token.system import paths, safe_path
from vx_token.system.clock import Clock
from vx_token.tokens.model import State
from vx_token.tokens.store import Store


@dataclass(frozen=True)
class Publisher:
    """Writes, checks and removes the output files of a store's profiles.

    Attributes:
        store: the runtime folder.
        clock: the wall clock.
        config: the configuration in force.
        endpoint: returns the gateway's key and URL of a profile in gateway mode, else two empty strings.
        state: returns the folder that records a profile's `files`; None: these files belong to another store.
    """

    store: Store
    clock: Clock
    config: Config
    endpoint: Callable[[Profile], tuple[str, str]] = lambda _: ("", "")
    state: Callable[[], Path] | None = None

    def publish(self, profile: Profile, state: State) -> dict[str, str]:
        """Update the profile's files; return the errors by file name.

        The files follow the profile as configured, whatever options a single command was given.
        """
        snapshot = self._snapshot(profile, state)
        errors = files.publish(self.store.folder(profile.name), snapshot)
        chosen = self._template_files(profile.name)
        return errors | (chosen.publish(snapshot) if chosen else {})

    def problems(self, profile: Profile, state: State) -> dict[str, str]:
        """Return the problems of the profile's files by file name; changes nothing."""
        problems = self.store.obstacles(profile.name)
        if state.attempts:
            snapshot = self._snapshot(profile, state)
            problems |= files.problems(self.store.folder(profile.name), snapshot)
            if chosen := self._template_files(profile.name):
                problems |= chosen.problems(snapshot)
        return problems

    def withdraw(self, profile: Profile) -> None:
        """Remove the secrets from a profile's folder that has become unsafe and so cannot be updated."""
        self.forget(profile.name)
        with contextlib.suppress(OSError, ConfigError):
            paths.check_folder(self.store.root)
            folder = self.store.folder(profile.name)
            if safe_path.belongs_to_us(str(folder)) and not folder.is_symlink():
                files.withdraw(folder)

    def forget(self, profile: str) -> None:
        """Remove the files of the setting `files` of a profile, which may be no longer configured."""
        if chosen := self._template_files(profile):
            chosen.withdraw()

    def _template_files(self, profile: str) -> TemplateFiles | None:
        return TemplateFiles(record_file(self.state(), profile)) if self.state else None

    def _snapshot(self, profile: Profile, state: State) -> Snapshot:
        profile = self.config.profiles.get(profile.name, profile)
        key_problem, key, url, former = "", "", "", None
        urls: tuple[str, ...] = ()
        try:
            key, url = self.endpoint(profile)
            if key:
                urls = gateway_urls(self.config, profile, lambda each: self.endpoint(each)[1])
        except ConfigError as error:
            key_problem = error.message
        # The print cache must not answer for the configuration file if the token was made with other settings, nor
        # for the default profile if another profile has the name `default`.
        misleading = self.config.overridden or profile.name == "default" != self.config.default_profile
        config = ("", "") if misleading else (str(self.config.path), self.config.stamp)
        if self.store.unsaved(profile.name):
            former = self.store.saved(profile.name).token
        return Snapshot(profile, state, self.clock.now(), config, key, url, urls, key_problem, former)
