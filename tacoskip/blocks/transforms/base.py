"""What transforms share."""

from torch import Tensor, nn


class Transform(nn.Module):
    """Base of all transforms; see the package's docstring for the contract."""

    sees_all = False

    def __init__(self) -> None:
        super().__init__()
        self.after: nn.Module = nn.Identity()

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """F of x (B, T, in), mask (B, T): (B, T, out)."""
        raise NotImplementedError
