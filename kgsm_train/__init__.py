"""kgsm_train: the PyTorch side; calibrates, trains, cross-validates and exports."""
