"""What has a `close` ends with the `with` statement that it is the object of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import TypeVar

_Own = TypeVar("_Own", bound="Closing")


class Closing(ABC):
    """Base of what is closed at the end of a `with` statement, however that ends."""

    @abstractmethod
    def close(self) -> None:
        """End it; calling it again does nothing."""

    def __enter__(self: _Own) -> _Own:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
