"""What all network clients share: when to try again, TLS, and addresses without their secrets."""
