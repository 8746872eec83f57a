"""What the router reads from a request's JSON, and how it adds fields without touching the rest."""
