"""The knowledge-guided LSTM in torch: water cloud model, LSTM, bounded loss.

Shapes: N windows, T steps, F channels, M members, H hidden.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kgsm_infer.kernels.head import Readout
from kgsm_infer.kernels.wcm import DB_TO_NEPER, VWC_NDVI2, VWC_ROOT, VWC_ROOT_LOW, Wcm
from kgsm_infer.kernels.window import Layout

from ..config import Network
from .members import LstmMembers
from .samples import Batch

#: A (linear power) and B (m2 kg-1) may not leave these ranges while they are learnt.
A_RANGE = (1e-4, 0.5)
B_RANGE = (0.01, 0.5)


@dataclass(frozen=True)
class Scattering:
    """The terms of the water cloud model that do not depend on A and B, all (N, T).

    sigma0: backscatter, linear power, at the reference angle where the rule says so.
    canopy: V**E cos theta, which A multiplies.  depth: 2 V / cos theta, which B multiplies.
    """

    sigma0: Tensor
    canopy: Tensor
    depth: Tensor

    def take(self, index: Tensor | slice) -> Scattering:
        """Return the terms of the windows in ``index``."""
        return Scattering(self.sigma0[index], self.canopy[index], self.depth[index])


class WcmIsolation(nn.Module):
    """Differentiable isolation of the soil's backscatter, A = exp(log A) learnt (Eq 13).

    learn_b: learn B the same way; the paper keeps it.

    Inside the valid range it is the function of :func:`kgsm_infer.kernels.wcm.isolate`. Where the
    soil fraction falls below its limit the fraction is bent to a positive floor, so that
    the loss stays finite and the gradient with respect to log A stays alive; such steps
    are masked by the caller.
    """

    def __init__(self, wcm: Wcm, learn_b: bool = False) -> None:
        super().__init__()
        self.wcm = wcm
        self.log_a = nn.Parameter(torch.tensor(math.log(wcm.a)))
        self.log_b = nn.Parameter(torch.tensor(math.log(wcm.b))) if learn_b else None

    def forward(
        self, sigma0_db: Tensor, vegetation: Tensor, angle_deg: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return (soil_db, soil_fraction), both of the input's shape; finite for finite input."""
        return self.isolate(self.scattering(sigma0_db, vegetation, angle_deg))

    def scattering(self, sigma0_db: Tensor, vegetation: Tensor, angle_deg: Tensor) -> Scattering:
        """Compute the terms that stay the same while A and B are learnt."""
        wcm = self.wcm
        vwc = vegetation
        if wcm.vwc_rule == "foliage":
            # as 1.9134 N (N - root), the root in two floats: see VWC_ROOT
            above_root = (vegetation - float(VWC_ROOT)) - float(VWC_ROOT_LOW)
            foliage = VWC_NDVI2 * vegetation * above_root
            vwc = foliage.clamp(min=0.0) + wcm.stem_kg_m2
        sigma0 = torch.exp(sigma0_db * DB_TO_NEPER)
        cos_ref = math.cos(math.radians(wcm.angle_ref_deg))
        cos_theta = torch.sin(torch.deg2rad(90.0 - angle_deg))
        if wcm.angle_rule == "normalise":
            sigma0 = sigma0 * (cos_ref / cos_theta) ** wcm.angle_exponent
        if wcm.angle_rule != "column":
            cos_theta = torch.full_like(sigma0, cos_ref)
        canopy = cos_theta * vwc**wcm.e if wcm.e != 0 else cos_theta
        return Scattering(sigma0, canopy, 2.0 * vwc / cos_theta)

    def isolate(self, terms: Scattering) -> tuple[Tensor, Tensor]:
        """Return (soil_db, soil_fraction) with the present A and B, both (N, T)."""
        b = self.wcm.b if self.log_b is None else torch.exp(self.log_b)
        # gamma2 = exp(-2 tau / cos theta), tau = B V                            (4) (5)
        two_tau = b * terms.depth
        # sigma_veg = A V**E cos theta (1 - gamma2)                                  (2)
        sigma_veg = torch.exp(self.log_a) * (terms.canopy * -torch.expm1(-two_tau))
        soil_fraction = (terms.sigma0 - sigma_veg) / terms.sigma0
        # sigma_soil[dB] = 10 log10((sigma0 - sigma_veg) / gamma2)              (1) (12)
        kept = smooth_floor(soil_fraction, self.wcm.min_soil_fraction)
        return (torch.log(kept * terms.sigma0) + two_tau) / DB_TO_NEPER, soil_fraction

    @property
    def learnt(self) -> Wcm:
        """The parameter set with the A (and B) learnt."""
        b = self.wcm.b if self.log_b is None else math.exp(self.log_b.item())
        return dataclasses.replace(self.wcm, a=math.exp(self.log_a.item()), b=b)

    @property
    def parameters_learnt(self) -> dict[str, float]:
        """The parameters that are learnt, by symbol: A, and B where it is."""
        found = {"A": math.exp(self.log_a.item())}
        if self.log_b is not None:
            found["B"] = math.exp(self.log_b.item())
        return found

    def keep_in_range(self) -> None:
        """Put A and B back where they left their ranges."""
        self.log_a.data.clamp_(*map(math.log, A_RANGE))
        if self.log_b is not None:
            self.log_b.data.clamp_(*map(math.log, B_RANGE))


@dataclass(frozen=True)
class LabelScale:
    """Mean and standard deviation that scale the members' output to SM, m3 m-3."""

    mean: float = 0.0
    std: float = 1.0

    @classmethod
    def of(cls, sm: NDArray[np.float32]) -> LabelScale:
        """Compute the scale of labels, or of their residuals from a head; 1 for constant ones."""
        return cls(float(sm.mean()), float(sm.std()) or 1.0)


@dataclass(frozen=True)
class SeparateEstimates:
    """Estimates of N windows before they are added up.

    head: (N,) SM of the head; None without one.  members: (N, M) SM of each member.
    valid: (N,) True where the window has a result.
    """

    head: Tensor | None
    members: Tensor
    valid: Tensor


class KnowledgeGuidedLSTM(nn.Module):
    """SM = f_LSTM([sigma_soil, v] over the window), Eq 11, as M averaged members.

    isolation: None makes the plain LSTM, which sees sigma0 itself.
    scale: of the training labels, or of their residual from the physics head.
    readout: of the physics head, to which the LSTM adds ``shrink`` times its estimate.
    unseen: channels that only the head reads.
    """

    seen: Tensor  # (F,) 1, or 0 of a channel that only the head reads

    def __init__(
        self,
        isolation: WcmIsolation | None,
        layout: Layout,
        size: Network,
        scale: LabelScale,
        readout: Readout | None = None,
        unseen: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.isolation = isolation
        self.layout, self.scale = layout, scale
        self.readout, self.shrink = readout, 1.0
        seen = torch.ones(layout.channels)
        seen[list(unseen)] = 0.0
        self.register_buffer("seen", seen)
        self.hidden = size.hidden
        self.members = LstmMembers(layout.channels, size.hidden, size.members)
        self.dropout = nn.Dropout(size.dropout)

    def channel(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return (backscatter channel in dB, valid), both (N, T)."""
        if self.isolation is None:
            return batch.sigma0_db, batch.observed
        soil_db, soil_fraction = self.isolation(batch.sigma0_db, batch.vegetation, batch.angle_deg)
        return soil_db, batch.observed & (soil_fraction >= self.isolation.wcm.min_soil_fraction)

    def tile(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Make the input tile (T, N, F) of :mod:`kgsm_infer.kernels.window`, and its validity."""
        channel_db, valid = self.channel(batch)
        return raw_tile(self.layout, channel_db, valid, batch), valid

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return (SM of each member (N, M), m3 m-3, not clipped; has a number (N,))."""
        tile, valid = self.tile(batch)
        return self.on_tile(tile), valid[:, -1]

    def on_tile(self, tile: Tensor) -> Tensor:
        """Return SM (N, M) of each member on a tile (T, N, F)."""
        members = self.members_on(tile)
        # SM = head + shrink LSTM
        if self.readout is None:
            return members
        return on_tile(self.readout, tile)[:, None] + self.shrink * members

    def separate(self, batch: Batch) -> SeparateEstimates:
        """Estimate SM by the head and by each member, not added up."""
        tile, valid = self.tile(batch)
        head = None if self.readout is None else on_tile(self.readout, tile)
        return SeparateEstimates(head, self.members_on(tile), valid[:, -1])

    def members_on(self, tile: Tensor) -> Tensor:
        """Run the members on a tile (T, N, F), giving their SM (N, M) in m3 m-3.

        A tile (T, M, N, F) has separate windows for each member.
        """
        shared = tile if tile.ndim == 4 else tile[:, None]
        windows = (shared * self.seen).transpose(2, 3)  # (T, 1 or M, F, N)
        count, keep = self.members.count, None
        steps, _, channels, n = windows.shape
        if self.training and self.dropout.p > 0:
            share = 1 - self.dropout.p
            # drawn one member after another, as separate LSTMs would
            drawn = torch.rand(count, n * (steps * channels + self.hidden), dtype=torch.float64)
            factors = (drawn < share).float().div_(share)
            of_inputs, of_states = (
                factors[:, : n * steps * channels],
                factors[:, -n * self.hidden :],
            )
            windows = windows * of_inputs.view(count, n, steps, channels).permute(2, 0, 3, 1)
            keep = of_states.view(count, n, self.hidden).transpose(1, 2)
        out: Tensor = self.members(windows.expand(steps, count, channels, n), keep)
        return out.T * self.scale.std + self.scale.mean


def head_alone(layout: Layout, readout: Readout, unseen: Sequence[int] = ()) -> KnowledgeGuidedLSTM:
    """Make the network of a head without an LSTM, in the form that every engine reads.

    Its LSTM has one unit, weights of 0 and ``shrink`` 0.
    """
    size = Network(hidden=1, members=1, dropout=0.0)
    network = KnowledgeGuidedLSTM(None, layout, size, LabelScale(), readout, unseen)
    with torch.no_grad():
        for weights in network.parameters():
            weights.zero_()
    network.shrink = 0.0
    return network.eval()


def on_tile(readout: Readout, tile: Tensor) -> Tensor:
    """Apply the head to a tile (T, N, F), giving (N,), as :mod:`kgsm_infer.kernels.head` does."""
    weight = torch.from_numpy(readout.weight)
    line = torch.einsum("tf,tnf->n", weight, tile) + float(readout.bias)
    if readout.limits is None:
        return line
    low, high = readout.limits
    p = 0.5 + 0.5 * torch.erf(line * math.sqrt(0.5))
    return (low * (1.0 - p) + high * p).clamp(low, high)


@dataclass(frozen=True)
class TrainingWindows:
    """All windows of a training, with everything that no parameter changes computed once.

    tile: (T, R, F) the input tile. Its backscatter channel is replaced where A is learnt.
    valid: (R, T).  terms: of the isolation where A is learnt, else None.
    """

    network: KnowledgeGuidedLSTM
    tile: Tensor
    valid: Tensor
    terms: Scattering | None

    @classmethod
    def of(cls, network: KnowledgeGuidedLSTM, batch: Batch) -> TrainingWindows:
        """Compute what stays the same in a training."""
        isolation = network.isolation
        with torch.no_grad():
            if isolation is None or not isolation.log_a.requires_grad:
                return cls(network, *network.tile(batch), None)
            tile = raw_tile(network.layout, batch.sigma0_db, batch.observed, batch)
            terms = isolation.scattering(batch.sigma0_db, batch.vegetation, batch.angle_deg)
        return cls(network, tile, batch.observed, terms)

    def take(self, index: Tensor | slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Return the tile (T, N, F) of some windows, and its validity (N, T)."""
        tile, valid, isolation = self.tile[:, index], self.valid[index], self.network.isolation
        if self.terms is None or isolation is None:
            return tile, valid
        soil_db, soil_fraction = isolation.isolate(self.terms.take(index))
        valid = valid & (soil_fraction >= isolation.wcm.min_soil_fraction)
        layout = self.network.layout
        scaled = (soil_db - layout.mean[0]) * (1.0 / layout.std[0])
        tile = torch.cat([scaled.T[..., None], tile[..., 1:]], dim=-1)
        return torch.where(valid.T[..., None], tile, 0.0), valid


def raw_tile(layout: Layout, channel_db: Tensor, valid: Tensor, batch: Batch) -> Tensor:
    """Make the input tile (T, N, F) of a backscatter channel (N, T), 0 where not ``valid``.

    In torch what :func:`kgsm_infer.kernels.window.pack` is in NumPy.
    """
    mean = torch.tensor(layout.mean, dtype=torch.float32)
    inv_std = 1 / torch.tensor(layout.std, dtype=torch.float32)
    scaled = torch.cat(
        [
            channel_db[..., None],
            batch.dynamic,
            batch.statics[:, None, :].expand(-1, channel_db.shape[1], -1),
            batch.gap_days[..., None],
        ],
        dim=-1,
    )
    scaled = (scaled - mean) * inv_std
    one = torch.ones_like(channel_db)[..., None]
    tile = torch.where(valid[..., None], torch.cat([scaled, one], dim=-1), 0.0)
    return tile.transpose(0, 1)


@dataclass(frozen=True)
class Loss:
    """The parts of Eq 10, each a scalar tensor. total = mse + lambda * boundary."""

    total: Tensor
    mse: Tensor
    boundary: Tensor


def bounded_loss(predicted: Tensor, sm: Tensor, weight: Tensor, physics_weight: float) -> Loss:
    """Return the mean squared error plus the boundary term (Eqs 7-10).

    predicted, weight: (N, M).  sm: (N,).  A pair of weight 0 does not count.
    """
    count = weight.sum().clamp(min=1.0)
    # L_MSE = mean (SM - SM_obs)**2                                                  (7)
    mse = (weight * (predicted - sm[:, None]) ** 2).sum() / count
    # L_boundary = mean [max(0, -SM) + max(0, SM - 1)]                           (8) (9)
    outside = torch.relu(-predicted) + torch.relu(predicted - 1.0)
    boundary = (weight * outside).sum() / count
    # L = L_MSE + lambda L_boundary                                                 (10)
    return Loss(mse + physics_weight * boundary, mse, boundary)


def falling(network: KnowledgeGuidedLSTM, batch: Batch, predicted: Tensor, rng: Tensor) -> Tensor:
    """Compute the fall of SM (N, M) per dB of the target's backscatter; 0 where SM rises.

    Wet soil is bright, so a retrieval that falls has learnt something else. rng: torch's
    state before ``predicted`` was made, so that both see the same dropout.
    """
    brighter_db = batch.sigma0_db.clone()
    brighter_db[:, -1] += 1.0
    after = torch.get_rng_state()
    torch.set_rng_state(rng)
    raised, _ = network(dataclasses.replace(batch, sigma0_db=brighter_db))
    torch.set_rng_state(after)
    return torch.relu(predicted - raised)


class ForwardLine(nn.Module):
    """sigma_soil[dB] = C + D SM (Eq 3), for the misfit of what was found in dB."""

    def __init__(self, soil_db: Tensor, sm: Tensor) -> None:
        super().__init__()
        slope = ((soil_db - soil_db.mean()) * (sm - sm.mean())).mean() / sm.var(correction=0).clamp(
            min=1e-6
        )
        self.d_db = nn.Parameter(slope.detach())
        self.c_db = nn.Parameter((soil_db.mean() - slope * sm.mean()).detach())

    def misfit(self, soil_db: Tensor, predicted: Tensor) -> Tensor:
        """Return squared misfit (N, M) in dB2 of SM (N, M) against the channel (N,)."""
        return (soil_db[:, None] - self.c_db - self.d_db * predicted) ** 2


def smooth_floor(fraction: Tensor, limit: float) -> Tensor:
    """Return ``fraction`` where it is >= limit, else limit**2 / (2 limit - fraction).

    Exactly the identity in the valid range; below it positive however far the fraction
    falls, and continuous with its slope. (An exponential would underflow to 0 in float32,
    and the gradient of its logarithm to NaN.)

    >>> smooth_floor(torch.tensor([0.5, 0.1, -0.3]), 0.1).round(decimals=4).tolist()
    [0.5, 0.10000000149011612, 0.019999999552965164]
    """
    below = limit**2 / (2 * limit - fraction.clamp(max=limit))
    return torch.where(fraction >= limit, fraction, below)
