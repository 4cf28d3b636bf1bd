"""Matrix products of a training step: tacoskip's choice of library against torch's.

    python benchmarks/speed_products.py [--rounds 9] [--clock cpu] [--json]

N rows of K numbers times weights of M, as the attention loop, its location filters, a GRU's input
and the linear spectrogram have them at the paper's sizes; then the gradient of the weights. Off an
AMD processor both are the same call.
"""

import sys
from collections.abc import Iterator
from functools import partial

import torch
from timing import Contestant, Race, main, parser

from tacoskip.blocks.products import outer, product

SIZES = ((32, 256, 768), (3200, 62, 128), (25600, 128, 384), (25600, 256, 1025))


def races(quick: bool) -> Iterator[Race]:
    for rows, inner, columns in ((4, 3, 5),) if quick else SIZES:
        again = 1 if quick else max(1, 2**32 // (rows * inner * columns) // 8)
        x, weight = torch.randn(rows, inner), torch.randn(columns, inner)
        grads = torch.randn(rows, columns)
        pairs = {
            "product": (lambda x=x, w=weight: x @ w.t(), partial(product, x, weight)),
            "gradient of weights": (lambda g=grads, x=x: g.t() @ x, partial(outer, grads, x)),
        }
        for name, (theirs, ours) in pairs.items():
            yield Race(
                f"{name}, {rows} x {inner} by {columns}, {again} times",
                "products",
                again,
                [
                    Contestant("tacoskip", partial(repeat, ours, again)),
                    Contestant("torch", partial(repeat, theirs, again), peer=True),
                ],
                operations=2.0 * rows * inner * columns * again,
            )


def repeat(work: partial[torch.Tensor], times: int) -> None:
    for _ in range(times):
        work()


if __name__ == "__main__":
    options = parser(__doc__, rounds=7).parse_args()
    with torch.inference_mode():
        sys.exit(main(options, races(options.quick)))
