"""Parts of a graph in the form that costs least."""
