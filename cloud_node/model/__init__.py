"""What runs a model: tails, fusion, prompts, keys and values, tokens. All torch of the cloud is here."""
