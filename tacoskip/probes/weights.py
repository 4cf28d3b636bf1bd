"""What the weights of a stack say: learned weights of skips, and reuse in dense stacks."""

from torch import Tensor, nn

from tacoskip.blocks import Topology
from tacoskip.probes.stacks import ByUnit, Key, by_place, stacks


def learned_weights(model: nn.Module) -> dict[str, ByUnit]:
    """Return alpha by place, and alpha_min and alpha_max where each channel has one.

    alpha: the learned weight of a skip (Bachlechner et al. 2021, "ReZero is all you need").
    """
    found, values = stacks(model), dict[Key, float]()
    for place, stack in found.items():
        for number, unit in enumerate(stack.units):
            weight = unit.skip.learned_weight() if unit.skip is not None else None
            if weight is not None:
                weight = weight.detach()
                values[place, "alpha", number] = float(weight.mean())
                if len(weight) > 1:
                    values[place, "alpha_min", number] = float(weight.min())
                    values[place, "alpha_max", number] = float(weight.max())
    return by_place(found, values)


def reuse(stack: Topology) -> list[list[list[float]]]:
    """Return, for each stage of a dense stack, a table (readers, sources) of mean |weight|.

    The weights are those of a reader's first layer, over the channels that one source gave (Huang
    et al. 2017, DenseNet, figure 5). Readers are the units of the stage and the transition behind
    them; sources are the stage's input and its units, so the rows of earlier readers are shorter.
    Empty where no unit reads several outputs.
    """
    tables = []
    for readers in stack.readers:
        rows = [_weight_by_channel(reader) for reader in readers]
        ends = [len(row) for row in rows]  # each reader sees one source more than the last
        sources = list(zip([0, *ends], ends, strict=False))
        tables.append(
            [[float(row[i:k].mean()) for i, k in sources if k <= len(row)] for row in rows]
        )
    return tables


def _weight_by_channel(module: nn.Module) -> Tensor:
    """Return the mean |weight| of a module's first layer for each channel that it reads: (in,)."""
    layer = next(m for m in module.modules() if isinstance(m, nn.Conv1d | nn.Linear))
    weight = layer.weight.detach().abs().float()  # (out, in / groups[, kernel])
    groups = layer.groups if isinstance(layer, nn.Conv1d) else 1
    kernel = weight[0, 0].numel()
    return weight.flatten(1).view(groups, -1, weight.shape[1], kernel).mean((1, 3)).flatten()
