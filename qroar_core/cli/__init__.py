"""The command line: the dashboard's job without a browser. See `python -m qroar_core --help`."""
