"""The split-aware engine: who waits, who is admitted, what the next step does. It knows no torch."""
