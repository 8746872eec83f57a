"""What this project does with SGLang servers as they are: weights from a peer, hand-off pairs."""
