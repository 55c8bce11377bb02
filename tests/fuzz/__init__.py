"""Coverage-guided fuzzing of everything that decodes a peer's bytes."""
