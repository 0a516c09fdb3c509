"""The inputs the method stands on: backscatter with its angle, vegetation, daily images."""
