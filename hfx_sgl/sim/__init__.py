"""The simulator: modelled engines behind the router's own policies, on virtual time."""
