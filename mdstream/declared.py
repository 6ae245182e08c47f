"""Class variables that a subclass has to set, asked for when it is made: not at its first use, hours later."""

from __future__ import annotations


class Declared:
    """Base of what declares class variables: `class Venue(Declared): name: ClassVar[str]`.

    Its subclasses have to set each of those without a value. Raises TypeError, naming what is missing.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if Declared in cls.__bases__:
            return
        declared = [pair for base in cls.__mro__ for pair in vars(base).get("__annotations__", {}).items()]
        missing = [name for name, kind in declared if "ClassVar" in str(kind) and not hasattr(cls, name)]
        if missing:
            raise TypeError(f"{cls.__module__}.{cls.__qualname__} has to set {', '.join(missing)}")
