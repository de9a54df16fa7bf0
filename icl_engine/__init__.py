"""Few-shot tasks, and answering them in context."""
