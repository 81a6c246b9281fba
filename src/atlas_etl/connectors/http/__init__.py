"""HTTP APIs described in a definition: authentication x pagination x format, without code."""
