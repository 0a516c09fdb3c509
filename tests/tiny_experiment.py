"""A small experiment on simulated data, for models that tests train."""

TINY = """
[data]
table = "twin.csv"
licence = "simulated"

[inputs]
steps = 3
features = ["doy_sin"]
statics = ["clay"]

[wcm]
angle_rule = "column"

[network]
hidden = 4
members = 2

[training]
epochs = 3
batch = 64

[crossval]
folds = 2
date_blocks = 2
models = ["mean", "wcm", "lstm", "kg-lstm"]
bootstrap = 50
"""
