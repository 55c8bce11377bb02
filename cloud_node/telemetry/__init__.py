"""How the cloud is seen from outside: metrics, log lines, spans, health."""
