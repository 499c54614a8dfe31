"""The service: gateways that speak HTTP, runners that run models, and their supervisor."""
