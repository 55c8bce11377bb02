"""The demo: the main job, with a cloud node and an edge node as two processes on loopback."""
