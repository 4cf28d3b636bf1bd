"""CBHG against a plain, slow reading of the paper (Wang et al. 2017, section 3.1), and against
padding.
"""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tacoskip.masks import lengths_to_mask
from tacoskip.models.cbhg import CBHG, BiGRU
from tacoskip.models.settings import CBHGSettings

LENGTHS = torch.tensor([9, 5, 2])


def small(block: str = "highway", bank_size: int = 5, **parts: Any) -> CBHG:
    torch.manual_seed(0)
    settings = CBHGSettings(
        bank_size=bank_size,
        bank_channels=6,
        projection_channels=7,
        block=block,
        channels=8,
        gru_channels=4,
        **parts,
    )
    return CBHG(5, settings)


def randomise(model: nn.Module) -> None:
    """Give batch norm statistics and scales that would show a mistake."""
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if "running_var" in name:
                value.uniform_(0.5, 2)
            elif "norm" in name and value.is_floating_point():
                value.normal_(0.3, 0.5)


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


def normalised(x: list[Tensor], norm: nn.Module) -> list[Tensor]:
    return [
        (frame - norm.running_mean) / torch.sqrt(norm.running_var + 1e-5) * norm.weight + norm.bias
        for frame in x
    ]


def convolved(x: list[Tensor], weight: Tensor) -> list[Tensor]:
    """A "same" convolution, frame by frame: weight (out, in, k); zeros beyond both ends."""
    k = weight.shape[2]
    out = []
    for t in range(len(x)):
        total = torch.zeros(weight.shape[0])
        for tap in range(k):
            source = t + tap - (k - 1) // 2
            if 0 <= source < len(x):
                total = total + weight[:, :, tap] @ x[source]
        out.append(total)
    return out


def gru(x: list[Tensor], cell: nn.GRU) -> list[Tensor]:
    """Cho et al. 2014, in torch's arrangement of gates: reset, update, new."""
    size = cell.hidden_size
    h, out = torch.zeros(size), []
    for frame in x:
        a = cell.weight_ih_l0 @ frame + cell.bias_ih_l0
        b = cell.weight_hh_l0 @ h + cell.bias_hh_l0
        reset = sigmoid(a[:size] + b[:size])
        update = sigmoid(a[size : 2 * size] + b[size : 2 * size])
        new = torch.tanh(a[2 * size :] + reset * b[2 * size :])
        h = (1 - update) * new + update * h
        out.append(h)
    return out


def plain_cbhg(cbhg: CBHG, x: Tensor) -> Tensor:
    """The paper, read plainly, for one utterance x (T, C) in eval mode."""
    frames = list(x)
    bank = [convolved(frames, conv.weight) for conv in cbhg.bank.convs]
    stacked = [torch.cat([output[t] for output in bank]) for t in range(len(frames))]
    stacked = [torch.clamp(h, min=0) for h in normalised(stacked, cbhg.bank.norm)]
    pooled = [
        torch.maximum(stacked[t], stacked[t + 1]) if t + 1 < len(stacked) else stacked[t]
        for t in range(len(stacked))
    ]
    h = normalised(convolved(pooled, cbhg.project1.weight), cbhg.norm1)
    h = [torch.clamp(frame, min=0) for frame in h]
    h = normalised(convolved(h, cbhg.project2.weight), cbhg.norm2)
    h = [residual + frame for residual, frame in zip(frames, h, strict=True)]
    h = [cbhg.widen.weight @ frame + cbhg.widen.bias for frame in h]
    for layer in cbhg.stack.units:
        heard, gated = layer.transform.linear, layer.skip.gate
        transform = [torch.clamp(heard.weight @ frame + heard.bias, min=0) for frame in h]
        gate = [sigmoid(gated.weight @ frame + gated.bias) for frame in h]
        h = [t * g + f * (1 - g) for t, g, f in zip(transform, gate, h, strict=True)]
    ahead, back = gru(h, cbhg.gru.ahead), gru(h[::-1], cbhg.gru.back)[::-1]
    return torch.stack([torch.cat(pair) for pair in zip(ahead, back, strict=True)])


@pytest.mark.parametrize("bank_size", [1, 4, 5])
def test_equals_plain_reading_of_the_paper(bank_size: int) -> None:
    cbhg = small(bank_size=bank_size).eval()
    randomise(cbhg)
    x, mask = torch.randn(3, 9, 5), lengths_to_mask(LENGTHS)
    with torch.no_grad():
        output = cbhg(x, mask)
        for row, length in enumerate(LENGTHS.tolist()):
            expected = plain_cbhg(cbhg, x[row, :length])
            torch.testing.assert_close(output[row, :length], expected, atol=1e-5, rtol=1e-5)
            assert output[row, length:].abs().sum() == 0


def test_paper_sizes() -> None:
    encoder = CBHG(128, CBHGSettings())
    assert [conv.kernel_size[0] for conv in encoder.bank.convs] == list(range(1, 17))
    assert len(encoder.stack.units) == 4
    assert all((layer.skip.gate.bias == -1).all() for layer in encoder.stack.units)
    assert encoder.out_channels == 256
    assert encoder(torch.randn(1, 3, 128), torch.ones(1, 3, dtype=torch.bool)).shape == (1, 3, 256)


@pytest.mark.parametrize(
    "left_out", [{"bank": False}, {"residual": False}, {"gru": False}, {"depth": 0}]
)
def test_each_part_can_be_left_out(left_out: dict[str, bool | int]) -> None:
    torch.manual_seed(0)
    whole, x, mask = small().eval(), torch.randn(3, 9, 5), lengths_to_mask(LENGTHS)
    part = small(**left_out).eval()
    output = part(x, mask)
    assert output.shape == whole(x, mask).shape
    assert output[~mask].abs().sum() == 0
    torch.testing.assert_close(output[1, :5], part(x[1:2, :5], mask[1:2, :5])[0])
    counts = [sum(p.numel() for p in cbhg.parameters()) for cbhg in (part, whole)]
    assert counts[0] < counts[1] or left_out == {"residual": False}


@pytest.mark.parametrize("block", ["highway", "residual", "plain"])
@pytest.mark.parametrize("training", [False, True])
def test_more_padding_changes_nothing(block: str, training: bool) -> None:
    """Output, every gradient and the running statistics are those of the batch without extra
    padding.
    """
    x = torch.randn(3, 9, 5, dtype=torch.float64)
    results = []
    for extra in (0, 6):
        cbhg = small(block).double().train(training)
        padded = torch.cat([x, torch.full((3, extra, 5), 7.0).double()], 1).requires_grad_()
        output = cbhg(padded, lengths_to_mask(LENGTHS, 9 + extra))
        output[:, :9].square().sum().backward()
        gradients = [p.grad for p in cbhg.parameters() if p.grad is not None]
        results.append((output[:, :9], padded.grad[:, :9], gradients, list(cbhg.buffers())))
        assert padded.grad[:, 9:].abs().sum() == 0
    torch.testing.assert_close(results[0], results[1], atol=1e-9, rtol=1e-9)


def test_padded_frames_get_no_gradient_and_may_hold_anything() -> None:
    cbhg = small().train()
    x = torch.randn(3, 9, 5)
    mask = lengths_to_mask(LENGTHS)
    rubbish = torch.where(mask[:, :, None], x, torch.tensor(1e6))
    torch.testing.assert_close(small().train()(x, mask), cbhg(rubbish, mask))


def test_item_alone_equals_item_in_batch() -> None:
    cbhg = small().eval()
    randomise(cbhg)
    x = torch.randn(3, 9, 5)
    together = cbhg(x, lengths_to_mask(LENGTHS))
    for row, length in enumerate(LENGTHS.tolist()):
        alone = cbhg(x[row : row + 1, :length], torch.ones(1, length, dtype=torch.bool))
        torch.testing.assert_close(together[row, :length], alone[0], atol=1e-5, rtol=1e-5)


def test_bigru_equals_packed_sequence() -> None:
    torch.manual_seed(1)
    ours, x = BiGRU(5, 4), torch.randn(3, 9, 5)
    theirs = nn.GRU(5, 4, batch_first=True, bidirectional=True)
    theirs.load_state_dict(
        dict(ours.ahead.state_dict())
        | {f"{name}_reverse": value for name, value in ours.back.state_dict().items()}
    )
    packed = nn.utils.rnn.pack_padded_sequence(x, LENGTHS, batch_first=True)
    expected, _ = nn.utils.rnn.pad_packed_sequence(theirs(packed)[0], batch_first=True)
    torch.testing.assert_close(ours(x, lengths_to_mask(LENGTHS)), expected, atol=1e-6, rtol=1e-5)


def test_every_parameter_learns() -> None:
    cbhg = small()
    cbhg(torch.randn(3, 9, 5), lengths_to_mask(LENGTHS)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in cbhg.parameters())
