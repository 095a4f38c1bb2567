"""The checks of a campaign, and its report."""
