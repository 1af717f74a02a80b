"""A task is a pair: what the generator is given, and what its output is compared with."""

from typing import Protocol

from torch import Tensor


class Task(Protocol):
    """What training asks of a task; tensors are RGB (B, 3, H, W) in [0,1]."""

    def input(self, photos: Tensor) -> Tensor:
        """What the generator is given instead of the photos."""
        ...

    def metrics(self, output: Tensor, photos: Tensor, given: Tensor) -> dict[str, Tensor]:
        """Figures told beside the losses in validation, each a mean over the batch."""
        ...

    def panels(self, output: Tensor, photos: Tensor, given: Tensor) -> list[Tensor]:
        """Pictures of the photos' size, to be seen side by side."""
        ...


class Stylization:
    """Photo in, painting out. Source: Johnson 2016, section 4.1."""

    def input(self, photos: Tensor) -> Tensor:
        return photos

    def metrics(self, output: Tensor, photos: Tensor, given: Tensor) -> dict[str, Tensor]:
        return {}

    def panels(self, output: Tensor, photos: Tensor, given: Tensor) -> list[Tensor]:
        return [photos, output]
