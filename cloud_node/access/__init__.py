"""Who may call: TLS, tokens, tenants' limits, and the way in."""
