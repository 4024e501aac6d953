"""Requests to Vertex AI itself."""
