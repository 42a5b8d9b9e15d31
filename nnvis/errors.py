"""What can go wrong, in two kinds; the command line turns each into an exit code and plain lines.

tell("nnvis stops measuring, training goes on: …")      # what is no reason to stop anybody's training
"""

from __future__ import annotations

import sys
import warnings


class InputError(Exception):
    """What the user gave cannot be used (exit code 2). The text says where, what, the choices, the next step."""


class RunError(Exception):
    """The run itself failed: diverged, out of disk, … (exit code 1)."""


def tell(text: str, *, stacklevel: int = 2) -> None:
    """Warn. Where the user has made errors of warnings (`-W error`), the text goes to stderr: nothing ends here."""
    try:
        warnings.warn(text, stacklevel=stacklevel + 1)
    except Warning:
        print(text, file=sys.stderr, flush=True)


def out_of_memory(error: Exception) -> bool:
    """Whether it says that memory has run out: torch has a class for accelerators only, and this needs no torch."""
    kinds = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return kinds or "DefaultCPUAllocator" in str(error)
