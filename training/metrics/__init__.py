"""Metrics of segmentation and anomaly detection, one module for each protocol."""
