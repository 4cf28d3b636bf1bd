"""What each unit of a dense stack reads of earlier ones (Huang et al. 2017, DenseNet, figure 5)."""

from torch import Tensor, nn

from tacoskip.blocks import Topology


def reuse(stack: Topology) -> list[list[list[float]]]:
    """Return, for each stage, a table (readers, sources) of mean |weight|.

    The weights are those of a reader's first layer, over the channels that one source gave. Readers
    are the units of the stage and the transition behind them; sources are the stage's input and its
    units, so the rows of earlier readers are shorter. Empty where no unit reads several outputs.
    """
    tables = []
    for readers in stack.readers:
        rows = [_weight_by_channel(reader) for reader in readers]
        ends = [len(row) for row in rows]  # each reader sees one source more than the last
        starts = [0, *ends]
        tables.append(
            [
                [
                    float(row[start:end].mean())
                    for start, end in zip(starts, ends, strict=False)
                    if end <= len(row)
                ]
                for row in rows
            ]
        )
    return tables


def _weight_by_channel(module: nn.Module) -> Tensor:
    """Return the mean |weight| of a module's first layer for each channel that it reads: (in,)."""
    layer = next(m for m in module.modules() if isinstance(m, nn.Conv1d | nn.Linear))
    weight = layer.weight.detach().abs().float()  # (out, in / groups[, kernel])
    groups = layer.groups if isinstance(layer, nn.Conv1d) else 1
    kernel = weight[0, 0].numel()
    return weight.flatten(1).view(groups, -1, weight.shape[1], kernel).mean((1, 3)).flatten()
