"""The training trace: fingerprints of what each traced step held (docs/adr/0010-the-training-trace.md).

The hook of a library (`hooks/torch.py`) says when a step begins and ends; here it is decided whether the step is traced
(`schedule`), read what it holds (`fingerprint`, `sketch`, `generators`, `batches`), named (`names`) and told (`chain`).
"""
