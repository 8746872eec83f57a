"""Which prefill worker may hand KV over to which decode worker, and what is known of the way."""
