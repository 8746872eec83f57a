"""From a complete request to a complete answer: one exchange is one client request and its legs."""
