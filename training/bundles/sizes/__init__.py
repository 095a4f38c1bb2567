"""Further input sizes of a bundle: the graph of another size made from its graph, measured, and written into it."""
