"""Programs of other projects, as their documentation writes them; each runs in its own environment."""
