"""The command `fleet.mine`: replays many recordings on Ray, and writes what was found as tables."""
