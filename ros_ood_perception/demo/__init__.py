"""The main job on a desk: frames, the live node over DDS, a recorded bag and a report."""
