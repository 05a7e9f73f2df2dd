"""Hash a file, or all files below a folder, with model-signing: under_modelsigning.py sha256|blake3 TARGET."""

import sys

import model_signing

model_signing.hashing.Config().use_file_serialization(hashing_algorithm=sys.argv[1]).hash(sys.argv[2])
