"""The LSTMs of all members, run and trained together: one product per step for all of them.

Shapes: N windows, T steps, F channels, M members, H hidden. Windows are the last axis, so that
each gate is one block of memory. The gates are ordered i, f, g, o, as in torch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class LstmMembers(nn.Module):
    """M LSTMs of one layer, each with a linear readout of its last state.

    The weights have the names, shapes (behind the axis of members) and random start of
    ``nn.LSTM`` and ``nn.Linear``, made one member after another.
    """

    weight_ih_l0: nn.Parameter  # (M, 4 H, F)
    weight_hh_l0: nn.Parameter  # (M, 4 H, H)
    bias_ih_l0: nn.Parameter  # (M, 4 H)
    bias_hh_l0: nn.Parameter  # (M, 4 H)
    weight: nn.Parameter  # (M, 1, H), of the readout
    bias: nn.Parameter  # (M, 1), of the readout

    def __init__(self, channels: int, hidden: int, members: int) -> None:
        super().__init__()
        lstms = [nn.LSTM(channels, hidden) for _ in range(members)]
        heads = [nn.Linear(hidden, 1) for _ in range(members)]
        for layers in (lstms, heads):
            for name, _ in layers[0].named_parameters():
                together = torch.stack([layer.get_parameter(name).detach() for layer in layers])
                self.register_parameter(name, nn.Parameter(together))

    @property
    def count(self) -> int:
        """Return M."""
        return len(self.weight)

    def of(self, member: int) -> dict[str, Tensor]:
        """Return the weights of one member by their names in ``nn.LSTM`` and ``nn.Linear``."""
        return {name: weight[member].detach() for name, weight in self.named_parameters()}

    def forward(self, windows: Tensor, keep: Tensor | None = None) -> Tensor:
        """Return the readout (M, N) of windows (T, M, F, N).

        keep: (M, H, N) factors of the last state, for dropout.
        """
        bias = self.bias_ih_l0 + self.bias_hh_l0
        last = last_state(windows, self.weight_ih_l0, self.weight_hh_l0, bias)
        if keep is not None:
            last = last * keep
        return torch.baddbmm(self.bias[:, None], self.weight, last)[:, 0]


def last_state(windows: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor) -> Tensor:
    """Return the state (M, H, N) of M LSTMs after the last step of windows (T, M, F, N).

    weight_ih: (M, 4 H, F).  weight_hh: (M, 4 H, H).  bias: (M, 4 H).
    """
    state: Tensor = _LastState.apply(windows, weight_ih, weight_hh, bias)  # type: ignore[no-untyped-call]
    return state


class _LastState(torch.autograd.Function):
    """The state after the last step, with its derivatives written out.

    i, f, g, o = W [x; 1; h], W = [W_x, b, W_h], then sigmoid, sigmoid, tanh, sigmoid
    c <- f c + i g,  h <- o tanh c,  c = h = 0 before the first step

    For networks as small as these the number of operations counts, so whatever does not need the
    step before (or behind, on the way back) is computed for all steps at once.
    """

    @staticmethod
    def forward(
        ctx: Any, windows: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor
    ) -> Tensor:
        steps, members, channels, n = windows.shape
        hidden = weight_hh.shape[2]
        weight = torch.cat([weight_ih, bias[..., None], weight_hh], dim=2)
        fed = windows.new_empty(steps + 1, members, channels + 1 + hidden, n)  # [x; 1; h before]
        fed[:steps, :, :channels] = windows
        fed[:steps, :, channels] = 1.0
        gates = windows.new_empty(steps, members, 4, hidden, n)
        cells = windows.new_empty(steps + 1, members, hidden, n)
        tanhs = windows.new_empty(steps, members, hidden, n)
        inputs, products = fed.unbind(), gates.view(steps, members, 4 * hidden, n).unbind()
        states, cell, tanh = fed[:, :, channels + 1 :].unbind(), cells.unbind(), tanhs.unbind()
        enter, forget, new, leave = (gate.unbind() for gate in gates.unbind(2))
        cell[0].zero_()
        states[0].zero_()
        for t, to_sigmoid in enumerate(gates[:, :, :2].unbind()):
            torch.bmm(weight, inputs[t], out=products[t])
            to_sigmoid.sigmoid_()
            new[t].tanh_()
            leave[t].sigmoid_()
            torch.addcmul(enter[t] * new[t], forget[t], cell[t], out=cell[t + 1])
            torch.tanh(cell[t + 1], out=tanh[t])
            torch.mul(leave[t], tanh[t], out=states[t + 1])
        ctx.save_for_backward(weight, fed, gates, cells, tanhs)
        return states[steps].clone()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (d_state,) = upstream
        weight, fed, gates, cells, tanhs = ctx.saved_tensors
        steps, members, _, hidden, n = gates.shape
        channels = weight.shape[2] - 1 - hidden
        enter, forget, new, leave = gates.unbind(2)
        # d gates / d (cell or state), and d cell / d state
        of_cell = torch.stack(
            [
                _through_sigmoid(new, enter),
                _through_sigmoid(cells[:-1], forget),
                _through_tanh(enter, new),
            ],
            dim=2,
        ).unbind()
        of_state = _through_sigmoid(tanhs, leave).unbind()
        from_state, forgets = _through_tanh(leave, tanhs).unbind(), forget.unbind()
        d_gates = torch.empty_like(gates)
        d_first, d_leave = d_gates[:, :, :3].unbind(), d_gates[:, :, 3].unbind()
        d_products = d_gates.view(steps, members, 4 * hidden, n).unbind()
        to_state = weight[:, :, channels + 1 :].transpose(1, 2)
        inputs = fed.transpose(2, 3).unbind()
        d_weight, d_cell = torch.zeros_like(weight), torch.zeros_like(cells[0])
        for t in reversed(range(steps)):
            d_cell = torch.addcmul(d_cell, d_state, from_state[t])
            torch.mul(d_cell[:, None], of_cell[t], out=d_first[t])
            torch.mul(d_state, of_state[t], out=d_leave[t])
            d_weight.baddbmm_(d_products[t], inputs[t])
            if t:
                d_state, d_cell = torch.bmm(to_state, d_products[t]), d_cell * forgets[t]
        d_windows = None
        if ctx.needs_input_grad[0]:
            to_windows = weight[:, :, :channels].transpose(1, 2)
            d_windows = torch.matmul(to_windows, d_gates.flatten(2, 3))
        d_ih, d_hh = d_weight[:, :, :channels], d_weight[:, :, channels + 1 :]
        return d_windows, d_ih, d_hh, d_weight[:, :, channels]


def _through_sigmoid(upstream: Tensor, value: Tensor) -> Tensor:
    """Return the derivative with respect to x, from that to ``value`` = sigmoid(x)."""
    derivative: Tensor = torch.ops.aten.sigmoid_backward(upstream, value)
    return derivative


def _through_tanh(upstream: Tensor, value: Tensor) -> Tensor:
    """Return the derivative with respect to x, from that to ``value`` = tanh(x)."""
    derivative: Tensor = torch.ops.aten.tanh_backward(upstream, value)
    return derivative
