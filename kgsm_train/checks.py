"""What a configuration may say, beyond the types of its keys."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kgsm_infer.base.errors import UsageError
from kgsm_infer.context.definitions import CONTEXT, SPANS, SharedBy

from .models import MODELS

if TYPE_CHECKING:
    from .config import Config

#: What the leakage guard finds, and [crossval] allow may let pass.
LEAKS = ("identical-series", "site-in-two-folds")


def check(path: Path, config: Config) -> None:
    """UsageError names the file, the key and what it may be."""

    def need(true: bool, key: str, what: str) -> None:
        if not true:
            raise UsageError(f"{path}: {key} {what}")

    inputs, net, fit, cv = config.inputs, config.network, config.training, config.crossval
    need(config.data.keep in ("refuse", "first", "last", "mean"), "[data] keep", "is unknown")
    need(inputs.polarisation in ("vh", "vv"), "[inputs] polarisation", "must be 'vh' or 'vv'")
    need(inputs.steps >= 1, "[inputs] steps", "must be at least 1")
    names = config.columns()
    need(len(set(names)) == len(names), "[inputs]", "names a feature twice")
    need("sm" not in names, "[inputs]", "has the label 'sm' among the features")
    need(config.wcm.residual in ("sm", "sigma0"), "[wcm] residual", "must be 'sm' or 'sigma0'")
    need(config.wcm.a > 0, "[wcm] a", "must be positive")
    need(config.wcm.learn in (("a",), ("a", "b")), "[wcm] learn", 'must be ["a"] or ["a", "b"]')
    try:
        config.wcm.with_a(config.wcm.a)
    except ValueError as error:
        raise UsageError(f"{path}: [wcm] {error}") from None
    for name in cv.models:
        need(name in MODELS, "[crossval] models", f"has {name!r}; known: {', '.join(MODELS)}")
    _check_head(path, config)
    need(net.hidden >= 1 and net.members >= 1, "[network]", "needs hidden and members >= 1")
    need(0 <= net.dropout < 1, "[network] dropout", "must lie in [0, 1)")
    need(fit.epochs >= 1 and fit.batch >= 1, "[training]", "needs epochs and batch >= 1")
    need(0 < fit.validation_share < 1, "[training] validation_share", "must lie in (0, 1)")
    need(fit.learning_rate > 0 and fit.learning_rate_a > 0, "[training]", "needs rates > 0")
    for name in ("physics_weight", "monotone_weight", "sigma0_weight"):
        need(getattr(fit, name) >= 0, f"[training] {name}", "must be >= 0")
    need(cv.folds == 0 or cv.folds >= 2, "[crossval] folds", "must be 0 or at least 2")
    need(cv.date_blocks >= 0, "[crossval] date_blocks", "must be >= 0")
    pairs = ("auto", "all", "some")
    need(cv.date_pairs in pairs, "[crossval] date_pairs", f"must be one of {', '.join(pairs)}")
    need(cv.ours in ("", *cv.models), "[crossval] ours", f"has {cv.ours!r}, none of its models")
    need(cv.train_groups >= 0, "[crossval] train_groups", "must be >= 0")
    need(bool(cv.models), "[crossval] models", "names no model")
    for name in cv.allow:
        need(name in LEAKS, "[crossval] allow", f"has {name!r}; known: {', '.join(LEAKS)}")


def _check_head(path: Path, config: Config) -> None:
    head = config.head

    def need(true: bool, key: str, what: str) -> None:
        if not true:
            raise UsageError(f"{path}: [head] {key} {what}")

    need(head.kind in ("change", "wcm", "none"), "kind", "must be 'change', 'wcm' or 'none'")
    need(head.history in SPANS, "history", f"must be one of {', '.join(SPANS)}")
    need(0 <= head.typical_looks < 1e6, "typical_looks", "must be >= 0")
    need(bool(head.shrink), "shrink", "names no number")
    need(all(0 <= part <= 1 for part in head.shrink), "shrink", "must lie in 0..1")
    need(0 <= head.shrink_slack < 1, "shrink_slack", "must lie in [0, 1)")
    need("sm" not in head.others, "others", "has the label 'sm'")
    changing = any(MODELS[name].head == "change" for name in (*config.crossval.models,))
    if changing or head.kind == "change":
        steps = config.inputs.steps
        need(steps > 1 or not head.look_before, "look_before", "needs [inputs] steps >= 2")
    for name in config.columns():
        of_site = name in CONTEXT and CONTEXT[name].shared_by is SharedBy.SITE_PAST
        need(
            not (of_site and head.typical_looks == 0 and head.history == "past"),
            "typical_looks",
            f"must be above 0 for {name}: a place's first look has no swing of its own",
        )
