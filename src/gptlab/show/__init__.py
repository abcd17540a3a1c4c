"""What the command prints when it explains: a model, a difference, the parts, the machine."""
