"""The code tree: asked of git, read, hashed and stored byte for byte before the command starts."""
