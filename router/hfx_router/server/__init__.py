"""The listening side: client connections, the bridge to the control plane, start and drain."""
