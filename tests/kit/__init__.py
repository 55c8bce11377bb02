"""What the tests share: tiny checkpoints, real servers, real files."""
