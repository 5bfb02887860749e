"""Who else decides: one protocol, one registry."""
