"""What a campaign must show, and what it has shown."""
