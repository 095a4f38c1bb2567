"""A camera's frames to results. The node and the replay are two shells around it."""
