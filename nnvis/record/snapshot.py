"""The newest measured numbers as a table: in a terminal, or in a notebook."""

from __future__ import annotations

import html
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nnvis.record.vocabulary import ABSENCE_REASONS, LayerInfo, Measurement

if TYPE_CHECKING:
    from rich.table import Table

_COLUMNS = {
    "activation_mean": "mean",
    "activation_std": "std",
    "zero_fraction": "zeros",
    "dead_fraction": "dead",
    "activation_grad_norm": "output gradient",
    "grad_norm": "gradient",
    "weight_norm": "weights",
    "update_ratio": "update ratio",
}


@dataclass(frozen=True)
class Snapshot:
    """One measured step, a line a layer call. Shows itself in notebooks, with `rich.print` and with `print`."""

    measurement: Measurement | None  # None: nothing has been measured yet
    network: Sequence[LayerInfo]

    @property
    def title(self) -> str:
        """The step, and its scalars."""
        if self.measurement is None:
            return "nothing measured yet"
        scalars = [f"{tag} {value:.4g}" for tag, value in self.measurement.scalars.items()]
        return ", ".join([f"step {self.measurement.step}", *scalars])

    def rows(self) -> Iterator[tuple[str, ...]]:
        """Name and kind of each layer, and its numbers as texts; the reason where a number is absent."""
        found = {
            quantity: {
                name: ABSENCE_REASONS[code] if code else f"{value:.3g}"
                for name, value, code in zip(row.layers, row.values.tolist(), row.reason_codes.tolist(), strict=True)
            }
            for quantity, row in (self.measurement.layers if self.measurement else {}).items()
        }
        for info in self.network or self._parameters_only():
            numbers = (
                found.get(quantity, {}).get(info.name, found.get(quantity, {}).get(info.name.split("#")[0], ""))
                for quantity in _COLUMNS
            )
            yield info.name, info.kind, *numbers

    def _parameters_only(self) -> Iterator[LayerInfo]:
        """What is known of a compiled model."""
        row = self.measurement.layers.get("grad_norm") if self.measurement else None
        yield from (LayerInfo(name, "", None, 0, 0) for name in (row.layers if row else ()))

    def __rich__(self) -> Table:
        from rich.table import Table

        table = Table("layer", "kind", title=self.title, title_justify="left")
        for heading in _COLUMNS.values():
            table.add_column(heading, justify="right")
        for row in self.rows():
            table.add_row(*row)
        return table

    def __str__(self) -> str:
        from rich.console import Console

        text = io.StringIO()
        Console(file=text, width=140).print(self)
        return text.getvalue().rstrip()

    def _repr_html_(self) -> str:
        heading = "".join(f"<th>{html.escape(name)}</th>" for name in ("layer", "kind", *_COLUMNS.values()))
        lines = ("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in self.rows())
        return f"<table><caption>{html.escape(self.title)}</caption><tr>{heading}</tr>{''.join(lines)}</table>"
