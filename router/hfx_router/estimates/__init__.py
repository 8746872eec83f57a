"""What the router knows of a request's cost before it is sent; the sums are in the policy core."""
