"""Evaluate models: folds, cross-validation, scores, figures and reports."""
