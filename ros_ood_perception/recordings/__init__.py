"""Bags, image folders and videos, read and written without middleware."""
