"""Who asks: schemes by which requests get their credentials, tokens or signatures."""
