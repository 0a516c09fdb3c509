"""Read scenes: manifests of rasters, their grid and dates, and paddock outlines."""
