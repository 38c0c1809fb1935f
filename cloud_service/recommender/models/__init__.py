"""The papers' models as plain torch modules. They know nothing of HTTP, files or training."""
