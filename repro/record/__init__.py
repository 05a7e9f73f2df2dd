"""Around the training process: supervise it, and see the facts from outside."""
