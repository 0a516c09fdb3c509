"""Map a scene: plan, retrieve block by block, verify and write."""
