"""From a connector to a destination: plan, transfer, run."""
