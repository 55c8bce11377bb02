"""Streams of edges, and the requests that outlive them."""
