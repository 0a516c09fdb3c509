"""From a scene to a map: planned, worked out block by block, proven, written."""
