"""The command `python -m training.add_size`."""
