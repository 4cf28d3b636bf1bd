import torch
from torch import Tensor, nn

from tacoskip.blocks.topologies.base import Make, Mixing
from tacoskip.blocks.unit import Unit


class DenseFormer(Mixing):
    """h_l = sum_j a_lj v_j over all earlier outputs v, a_lj from 1 for the last, 0 for others:
    DenseFormer, Pagliardini et al. 2024.

    Units keep their own skip. Every unit is weighted and reads every output (the paper's dilation
    and period are 1).
    """

    name = "denseformer"

    def __init__(self, channels: int, depth: int, make: Make):
        size = channels, channels
        super().__init__(Unit(make.transform(*size), make.skip(*size)) for _ in range(depth))
        last = torch.eye(depth + 1)
        self.weights = nn.ParameterList(last[i, : i + 1] for i in range(1, depth + 1))

    def mix(self, layer: int, outputs: list[Tensor], mask: Tensor) -> Tensor:
        if layer == 0:
            return outputs[0]
        return torch.einsum("l,lbtc->btc", self.weights[layer - 1], torch.stack(outputs))
