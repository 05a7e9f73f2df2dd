"""Two training traces compared: which step, process, field and tensors part first, of what kind, and how far."""
