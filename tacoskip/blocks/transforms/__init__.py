"""Transforms: the F of y = skip(x, F(x)). The contract is the docstring of `base.Transform`."""

from tacoskip.blocks.transforms.base import Transform
from tacoskip.blocks.transforms.basic import Basic
from tacoskip.blocks.transforms.bottleneck import Bottleneck, Grouped
from tacoskip.blocks.transforms.conformer_conv import ConformerConv
from tacoskip.blocks.transforms.convnext import ConvNeXt
from tacoskip.blocks.transforms.dense import DenseLayer
from tacoskip.blocks.transforms.inverted import Inverted
from tacoskip.blocks.transforms.linear import Linear
from tacoskip.blocks.transforms.nonlocal_ import NonLocal
from tacoskip.blocks.transforms.preact import PreAct, Wide
from tacoskip.blocks.transforms.shuffle import Shuffle
from tacoskip.blocks.transforms.squeeze_excite import SqueezeExcite
from tacoskip.blocks.transforms.srgan import SRGAN

TRANSFORMS: dict[str, type[Transform]] = {
    "basic": Basic,
    "preact": PreAct,
    "bottleneck": Bottleneck,
    "wide": Wide,
    "grouped": Grouped,
    "inverted": Inverted,
    "shuffle": Shuffle,
    "srgan": SRGAN,
    "nonlocal": NonLocal,
    "linear": Linear,
    "dense": DenseLayer,
    "convnext": ConvNeXt,
    "conformer_conv": ConformerConv,
    "squeeze_excite": SqueezeExcite,
}
