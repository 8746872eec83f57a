"""The emulated worker: SGLang's HTTP interface over the engine model, in real time."""
