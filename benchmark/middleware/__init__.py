"""Measurements of Fast DDS: connections and services."""
