"""One recording: its replay into rows, its parts, and how they are joined."""
