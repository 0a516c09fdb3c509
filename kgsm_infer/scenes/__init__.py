"""What lies on the ground: manifests of rasters, their grid and dates, and paddock outlines."""
