"""What to label next: the frames that say most, and no two that say the same."""
