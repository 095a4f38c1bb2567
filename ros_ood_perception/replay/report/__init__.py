"""The report of a replay: one HTML file, made of the replay's output and its recording."""
