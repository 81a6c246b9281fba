"""Memory and speed of Atlas's paths, beside the limit of each in the same run: `benchmarks/run --quick`."""
