"""How good it is: folds, cross-validation, scores, figures and reports."""
