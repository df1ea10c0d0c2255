"""From fitted models to the bundle that is served, and the proof that both answer alike."""
