"""The processes that the campaign starts: sender, consumer, watcher and the node with a faulty engine."""
