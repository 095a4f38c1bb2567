"""How the process starts and ends."""
