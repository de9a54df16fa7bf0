"""The embedded model: a small Llama of our own, its vocabulary, its pretraining corpus and recipe."""
