"""The command `import_network`."""
