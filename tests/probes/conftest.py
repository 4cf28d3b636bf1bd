"""Small networks for the probes."""

from collections.abc import Callable

import pytest
import torch

from tacoskip.models.cbhg import CBHG
from tacoskip.models.settings import CBHGSettings


@pytest.fixture
def network() -> Callable[..., CBHG]:
    """Build a CBHG of a family, every parameter moved off its start."""

    def build(
        block: str, depth: int = 4, skip: str = "", **options: float | int | str | bool
    ) -> CBHG:
        torch.manual_seed(0)
        more = {"growth": 4} if block in ("dense", "densenet") else {}
        settings = CBHGSettings(
            *(2, 8, 8, depth, 8, 8), block=block, skip=skip, block_options=more | options
        )
        model = CBHG(8, settings).double()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        return model

    return build
