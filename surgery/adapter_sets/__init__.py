"""Many adapters side by side: a folder of them, or the checkpoints of a training."""

from surgery.adapter_sets.adapter_set import MOST_BYTES, AdapterSet, Member, Outline, open_set

__all__ = ["MOST_BYTES", "AdapterSet", "Member", "Outline", "open_set"]
