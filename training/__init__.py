"""How the default model came to be: scenes, questions, tokenizer, training, export. Not needed to use it."""
