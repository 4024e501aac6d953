"""Questions at the terminal."""

import click

from vx_token.cli import output


class Terminal:
    """Asks a person."""

    interactive = True

    def value(self, question: str, default: str) -> str:
        """Return the typed answer, or the default."""
        return str(click.prompt(question, default=default or None))

    def confirm(self, question: str) -> bool:
        """Return whether the user agrees, which is the default."""
        answers = {"": True, "y": True, "yes": True, "n": False, "no": False}
        prompt = f"{question} [Y/n]"
        while (answer := str(click.prompt(prompt, default="", show_default=False)).strip().lower()) not in answers:
            output.show("answer y for yes or n for no")
        return answers[answer]
