"""How a setting is declared: its default, its meaning and its limits; its name follows from its group.

class Nats(Group, alias_generator=prefixed("NATS_")):
    stream_mb: int = setting(4096, "MiB at which ...", ge=0)     NATS_STREAM_MB, in mdstream.toml nats_stream_mb
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.fields import FieldInfo


class Group(BaseModel):
    """Settings of one part. The alias of a field is its name in the environment."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def prefixed(prefix: str) -> Callable[[str], str]:
    """How the names of a group's settings are made from its fields."""
    return lambda field: prefix + field.upper()


def setting(default: Any, what: str, *, name: str | None = None, **limits: Any) -> Any:
    """A field of a Group; `name` in the environment if it is not prefix and field."""
    return Field(default, alias=name, description=what, **limits)


def groups_in(group: type[Group]) -> dict[str, type[Group]]:
    """The groups that a group holds, by the aliases of their fields."""
    fields = {str(field.alias): field.annotation for field in group.model_fields.values()}
    return {name: type_ for name, type_ in fields.items() if isinstance(type_, type) and issubclass(type_, Group)}


def settings_of(group: type[Group]) -> Iterator[FieldInfo]:
    """All settings of a group and of the groups in it."""
    inner = groups_in(group)
    yield from (field for field in group.model_fields.values() if field.alias not in inner)
    for each in inner.values():
        yield from settings_of(each)


def by_group(group: type[Group], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a group, by name, with those of each group in it one level below."""
    inner = groups_in(group)
    own = {str(field.alias) for field in group.model_fields.values()} - inner.keys()
    below = {name: by_group(each, values) for name, each in inner.items()}
    return {name: value for name, value in values.items() if name in own} | below


def below_groups(group: type[Group], place: list[str]) -> list[str]:
    """A place in a group without the names of the groups that lead to it: a setting, and what is inside it."""
    inner = groups_in(group).get(place[0]) if place else None
    return place if inner is None else below_groups(inner, place[1:])


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _json(value: object) -> object:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError as error:
        raise ValueError(f"no JSON: {error}") from None


def _upper(value: object) -> object:
    return (value.strip().upper() or None) if isinstance(value, str) else value


T = TypeVar("T")
OptionalSetting = Annotated[T | None, BeforeValidator(lambda value: None if value == "" else value)]
"""An optional setting; an empty text counts as not set."""
Listed = Annotated[tuple[T, ...], BeforeValidator(_split)]
"""A list, or its elements comma-separated in one text."""
Json = Annotated[T, BeforeValidator(_json)]
"""A value, or its JSON."""
Upper = Annotated[T, BeforeValidator(_upper)]
"""A word in upper case, given in any; an empty text is None."""
