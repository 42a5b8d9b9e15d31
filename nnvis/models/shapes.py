"""Shapes as people read them, and the check of what arrives at a built-in network."""

from __future__ import annotations

from collections.abc import Sequence

from nnvis.errors import InputError


def shown(row_shape: Sequence[int]) -> str:
    """The shape of a batch of rows: (1, 8, 8) -> "(N, 1, 8, 8)"."""
    return f"({', '.join(['N', *map(str, row_shape)])}{'' if row_shape else ','})"


def require_numbers(kind: str, vocabulary_size: int) -> None:
    """Raises InputError when token ids arrive at a network that can only multiply them."""
    if vocabulary_size:
        raise InputError(
            f"model.kind: {kind} takes numbers, but token ids of text arrive; choose rnn or transformer, "
            "which embed them, or layers that begin with `- Embedding: 32`"
        )


def require_image(input_shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Channels, height and width; raises InputError when rows are no images."""
    if len(input_shape) != 3:
        raise InputError(
            f"model.kind: cnn takes images (N, channels, height, width), but {shown(input_shape)} arrives; "
            "choose mlp, or rnn or transformer for sequences"
        )
    channels, height, width = input_shape
    return channels, height, width


def require_sequence(kind: str, input_shape: tuple[int, ...], vocabulary_size: int) -> None:
    """Raises InputError when rows are neither sequences (T, F) of numbers nor token ids (T,)."""
    if len(input_shape) != (1 if vocabulary_size else 2):
        raise InputError(
            f"model.kind: {kind} takes sequences (N, steps, features) or token ids (N, steps), "
            f"but {shown(input_shape)} arrives; choose mlp, or cnn for images"
        )
