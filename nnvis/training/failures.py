"""What the machine refuses, in words: memory that runs out, a model that does not compile, a batch of one row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nnvis.config import schema
from nnvis.errors import InputError, RunError, out_of_memory


@contextmanager
def explained(settings: schema.Training) -> Iterator[None]:
    """Turns what is no fault of the program into an error of one line that says what to change."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise InputError("training.batch_size: batch normalization needs more than one row in a batch") from error
    except (MemoryError, RuntimeError) as error:
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            first_line = str(error).strip().splitlines()[0]
            raise RunError(f"torch.compile failed: {first_line}; set training.compile: false") from error
        if not out_of_memory(error):
            raise
        smaller = "a smaller training.batch_size"
        if isinstance(settings.batch_size, int) and settings.batch_size > 1:
            half = settings.batch_size // 2
            smaller = f"training.batch_size={half} training.accumulate={2 * settings.accumulate} (the same steps)"
        raise RunError(f"out of memory on {settings.device}; try {smaller}, or a smaller model") from error
