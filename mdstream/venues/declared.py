"""Class variables that a subclass has to set, checked when the class is created, not at first use hours later."""

from __future__ import annotations


class Declared:
    """Base of classes that declare class variables: `class Venue(Declared): name: ClassVar[str]`.

    Their subclasses have to set each one that has no value. Raises TypeError naming the missing ones.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if Declared in cls.__bases__:
            return
        declared = [pair for base in cls.__mro__ for pair in vars(base).get("__annotations__", {}).items()]
        missing = [name for name, kind in declared if "ClassVar" in str(kind) and not hasattr(cls, name)]
        if missing:
            raise TypeError(f"{cls.__module__}.{cls.__qualname__} has to set {', '.join(missing)}")
