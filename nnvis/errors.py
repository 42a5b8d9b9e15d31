"""What can go wrong, in two kinds; the command line turns each into an exit code and plain lines."""


class InputError(Exception):
    """What the user gave cannot be used (exit code 2). The text says where, what, the choices, the next step."""


class RunError(Exception):
    """The run itself failed: diverged, out of disk, … (exit code 1)."""
