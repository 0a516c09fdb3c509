"""Other people's files, and a simulated twin, as tables of the contract."""
