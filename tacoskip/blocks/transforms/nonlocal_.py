import torch
from torch import Tensor, nn
from torch.nn import functional

from tacoskip.blocks.layers import MaskedBatchNorm1d
from tacoskip.blocks.transforms.base import Transform

PAIRWISE = ("gaussian", "embedded", "dot", "concatenation")


class NonLocal(Transform):
    """F(x)_i = BN(W_z sum_j f(x_i, x_j) g(x_j) / C_i): non-local networks, Wang et al. 2018.

    `pairwise` is f: gaussian exp(x_i . x_j), embedded exp(theta_i . phi_j), dot theta_i . phi_j,
    concatenation ReLU(w . [theta_i, phi_j]). C_i is the sum of f for the first two (a softmax), the
    number of real frames for the others. The last normalisation starts at zero, so that a new block
    with an additive skip is the identity (section 4.1). Departure: no subsampling.
    """

    name = "nonlocal"

    sees_all = True

    def __init__(
        self, in_channels: int, out_channels: int, *, pairwise: str = "embedded", reduction: int = 2
    ):
        super().__init__()
        if pairwise not in PAIRWISE:
            raise ValueError(f"expected pairwise of {', '.join(PAIRWISE)}, got '{pairwise}'")
        self.pairwise = pairwise
        inner = max(1, in_channels // reduction)
        self.value = nn.Linear(in_channels, inner)
        if pairwise != "gaussian":
            self.theta = nn.Linear(in_channels, inner)
            self.phi = nn.Linear(in_channels, inner)
        if pairwise == "concatenation":
            self.weigh_theta = nn.Linear(inner, 1, bias=False)
            self.weigh_phi = nn.Linear(inner, 1, bias=False)
        self.out = nn.Linear(inner, out_channels)
        self.norm = MaskedBatchNorm1d(out_channels)
        nn.init.zeros_(self.norm.weight)

    def attention(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return f(x_i, x_j) / C_i: (B, T, T), zero where j is padding."""
        real = mask[:, None, :]
        if self.pairwise == "gaussian":
            scores = x @ x.transpose(1, 2)
        elif self.pairwise == "concatenation":
            scores = torch.relu(
                self.weigh_theta(self.theta(x)) + self.weigh_phi(self.phi(x)).transpose(1, 2)
            )
        else:
            scores = self.theta(x) @ self.phi(x).transpose(1, 2)
        if self.pairwise in ("gaussian", "embedded"):
            return torch.softmax(scores.masked_fill(~real, -torch.inf), 2)
        return scores.masked_fill(~real, 0.0) / real.sum(2, keepdim=True)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        if self.pairwise == "embedded":  # never holds the (T, T) weights
            h = functional.scaled_dot_product_attention(
                self.theta(x), self.phi(x), self.value(x), mask[:, None, :], scale=1.0
            )
        else:
            h = self.attention(x, mask) @ self.value(x)
        return self.norm(self.out(h), mask)
