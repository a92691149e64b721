"""What a GPU is to be asked when one is at hand; see README.md."""
