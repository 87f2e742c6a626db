"""The one exception that stands for bad input."""


class InputError(ValueError):
    """What the user gave cannot be used; the message says what came, what was expected and what to do.

    Programs print it as a single line and exit with code 2.
    """


class Stopped(Exception):
    """The user ended the program with Ctrl-C or SIGTERM; what was reached is saved."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by signal {signum}")
        self.signum = signum
