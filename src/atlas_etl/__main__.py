"""`python -m atlas_etl` is the command `atlas`."""

from atlas_etl.cli.start import main

main()
