"""`python -m hearth_client` is the `hearth` command."""

from hearth_client.cli import main

main()
