"""What is learnt: samples, the network and its training, the calibrated WCM, the baselines."""
