"""What every node of the settings tree has in common."""

from collections.abc import Collection
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=1)]


class Added:
    """Marks a setting that came when there were runs already, as `Annotated[float | None, Added()]`; its default is what was before.

    Fingerprints name it only where it is set to something else, so what an older version has made is still known as the same.
    """


class Settings(BaseModel):
    """Base of every node of the tree: immutable, unknown keys refused, field docs taken from the strings under the fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=())


def identity(settings: Settings, exclude: Collection[str] = ()) -> dict[str, Any]:
    """The settings as fingerprints name them: all, but for those to exclude and for added ones that are at their default."""
    named: dict[str, Any] = settings.model_dump(mode="json", exclude=set(exclude))
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if any(isinstance(mark, Added) for mark in field.metadata) and value == field.get_default(call_default_factory=True):
            named.pop(name, None)
        elif isinstance(value, Settings) and name in named:
            named[name] = identity(value)
    return named
