"""AdamW: stochastic gradient descent with adaptive moments and decoupled weight decay.

Source: Loshchilov and Hutter (2019), "Decoupled weight decay regularization", Algorithm 2.
``torch.optim.AdamW`` makes the same steps, but imports torch's compiler and sympy at the first one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

#: Decay of the mean gradient and of the mean squared gradient, and what is added to its root.
BETAS, EPSILON = (0.9, 0.999), 1e-8


@dataclass(frozen=True)
class WeightGroup:
    """Weights that share a learning rate and a weight decay."""

    weights: Sequence[Tensor]
    learning_rate: float
    weight_decay: float = 0.0


class AdamW:
    """The moments of all weights. :meth:`step` changes the weights in place."""

    def __init__(self, groups: Sequence[WeightGroup]) -> None:
        self._groups = groups
        # the weights of a group become views of one vector, so that a step is a few operations
        self._vectors = [parameters_to_vector(group.weights).detach() for group in groups]
        for group, vector in zip(groups, self._vectors, strict=True):
            vector_to_parameters(vector, group.weights)
        self._means = [torch.zeros_like(vector) for vector in self._vectors]
        self._squares = [torch.zeros_like(vector) for vector in self._vectors]
        self._steps = 0

    def gradients(self, loss: Tensor) -> list[Tensor]:
        """Return the derivative (P,) of a loss with respect to the weights of each group."""
        weights = [weight for group in self._groups for weight in group.weights]
        found = iter(torch.autograd.grad(loss, weights))
        return [torch.cat([next(found).flatten() for _ in group.weights]) for group in self._groups]

    def step(self, gradients: Sequence[Tensor]) -> None:
        """Make one step. gradients: (P,) of each group, its weights one after another."""
        self._steps += 1
        rest = [1.0 - beta**self._steps for beta in BETAS]
        for group, weight, mean, square, gradient in zip(
            self._groups, self._vectors, self._means, self._squares, gradients, strict=True
        ):
            # w <- (1 - lr wd) w
            weight.mul_(1.0 - group.learning_rate * group.weight_decay)
            # m <- b1 m + (1 - b1) g,  v <- b2 v + (1 - b2) g**2
            mean.lerp_(gradient, 1.0 - BETAS[0])
            square.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1.0 - BETAS[1])
            # w <- w - lr m' / (sqrt v' + eps),  m' = m / (1 - b1**t),  v' = v / (1 - b2**t)
            root = square.sqrt().div_(math.sqrt(rest[1])).add_(EPSILON)
            weight.addcdiv_(mean, root, value=-group.learning_rate / rest[0])
