"""Small networks of reference implementations: what they compute, and how it was made."""
