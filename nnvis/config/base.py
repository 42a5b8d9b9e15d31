"""What all sections of a config have in common: strict, closed, frozen; and the forms they are written in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator
from pydantic_core import PydanticCustomError

from nnvis.config.torch_arguments import Complaint

FORMS = {
    r"^[A-Za-z0-9][A-Za-z0-9._=,-]*$": "letters, digits, `.`, `_`, `-`, `=` and `,`, with a letter or digit first",
    r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$": "`package.module:name`",
    r"^(auto|cpu|cuda|cuda:\d+|mps)$": "auto, cpu, cuda, cuda:N or mps",
}
"""The patterns of texts in words."""

_NAME, _TARGET, _DEVICE = FORMS

PositiveInt = Annotated[int, Field(ge=1, lt=2**31)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Size = Annotated[list[PositiveInt], Field(min_length=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Name = Annotated[str, Field(pattern=_NAME)]
Target = Annotated[str, Field(pattern=_TARGET)]
Device = Annotated[str, Field(pattern=_DEVICE)]


class Section(BaseModel):
    """Base of all sections: immutable, no unknown keys, no silent conversion of types, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, defer_build=True)


class KindSection(Section):
    """A section that may be written as its kind alone: `init: orthogonal` is `init: {kind: orthogonal}`."""

    only_for: ClassVar[dict[str, tuple[str, ...]]] = {}
    """Fields that mean something for some kinds only: field -> kinds."""

    @model_validator(mode="before")
    @classmethod
    def _from_kind(cls, raw: Any) -> Any:
        return {"kind": raw} if isinstance(raw, str) else raw

    @model_validator(mode="after")
    def _fits_kind(self) -> KindSection:
        kind = getattr(self, "kind", "")
        refuse(
            Complaint((name,), f"is for {', '.join(kinds)}, not for {kind}", at_key=True)
            for name, kinds in self.only_for.items()
            if kind not in kinds and name in self.model_fields_set
        )
        return self

    @model_serializer
    def _as_written(self) -> Any:
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        kind = fields["kind"]
        own = {name: value for name, value in fields.items() if kind in self.only_for.get(name, (kind,))}
        return own if len(own) > 1 else kind


def refuse(complaints: Iterable[Complaint]) -> None:
    """Raises all complaints as one of pydantic's errors, if there are any."""
    complaints = list(complaints)
    if complaints:
        raise refusal(*complaints)


def refusal(*complaints: Complaint) -> PydanticCustomError:
    """The error that stands for the complaints; `explaining` takes them out of it again."""
    text = "; ".join(f"{'.'.join(map(str, path))}: {message}".removeprefix(": ") for path, message, _ in complaints)
    return PydanticCustomError("refused", "{text}", {"text": text, "complaints": complaints})
