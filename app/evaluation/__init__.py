"""The Evaluate page: what to ask of which variants, what came out, and what stands behind it."""
