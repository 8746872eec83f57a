"""An open-loop client that measures an OpenAI or SGLang endpoint under a planned workload."""
