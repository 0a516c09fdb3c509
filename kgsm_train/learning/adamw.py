"""AdamW: stochastic gradient descent with adaptive moments and decoupled weight decay.

Source: Loshchilov and Hutter (2019), "Decoupled weight decay regularization", Algorithm 2.
The steps are torch's own function. The class ``torch.optim.AdamW`` around it imports torch's
compiler and sympy at the first step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.optim.adamw import adamw

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
        self._counts = [torch.zeros(()) for _ in self._vectors]

    def gradients(self, loss: Tensor) -> list[Tensor]:
        """Return the derivative (P,) of a loss with respect to the weights of each group."""
        weights = [weight for group in self._groups for weight in group.weights]
        found = iter(torch.autograd.grad(loss, weights))
        return [torch.cat([next(found).flatten() for _ in group.weights]) for group in self._groups]

    def step(self, gradients: Sequence[Tensor]) -> None:
        """Make one step. gradients: (P,) of each group, its weights one after another."""
        for group, vector, gradient, mean, square, count in zip(
            self._groups,
            self._vectors,
            gradients,
            self._means,
            self._squares,
            self._counts,
            strict=True,
        ):
            adamw(
                [vector],
                [gradient],
                [mean],
                [square],
                [],
                [count],
                foreach=False,
                amsgrad=False,
                beta1=BETAS[0],
                beta2=BETAS[1],
                lr=group.learning_rate,
                weight_decay=group.weight_decay,
                eps=EPSILON,
                maximize=False,
            )
