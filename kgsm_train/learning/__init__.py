"""Train models: samples, the network, the calibrated WCM, the baselines."""
