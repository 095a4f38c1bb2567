"""One module for each public data set: where its files lie, and how its labels map to ours."""
