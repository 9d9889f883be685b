"""Drives the sidecar against real OAuth 2.0 servers."""
