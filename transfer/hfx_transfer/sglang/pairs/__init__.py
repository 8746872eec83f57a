"""Can two SGLang servers hand KV over to each other, and what do they say when it fails."""
