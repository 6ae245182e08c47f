"""What the HTTP endpoints of all processes share."""
