"""What the train steps need of accelerators that are not at hand; see README.md."""
