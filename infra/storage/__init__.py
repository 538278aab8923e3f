"""Files of a run: shards, manifests and small JSON, each visible only when it is complete."""
