"""Child processes that stop with their parent, and servers as such, for trials and tests."""
