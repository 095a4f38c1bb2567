"""The live part of the demo: player, node and recorder as processes of their own."""
