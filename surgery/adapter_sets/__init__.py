"""Many adapters side by side: a folder of them, or the checkpoints of a training."""

from surgery.adapter_sets.adapter_set import MOST_BYTES, AdapterSet, Member, Outline, open_set
from surgery.adapter_sets.clusters import Branch, Clusters, cluster_members
from surgery.adapter_sets.matrix import Matrix, Place, compare_members
from surgery.adapter_sets.matrix_file import keep_matrix, kept_matrix, matrix_file
from surgery.adapter_sets.matrix_table import pair_rows, pairs_csv, write_pairs
from surgery.adapter_sets.matrix_values import COSINE, LEVEL, MATRIX_MEASURES, PairValues, matrix_values

__all__ = [
    "COSINE",
    "LEVEL",
    "MATRIX_MEASURES",
    "MOST_BYTES",
    "AdapterSet",
    "Branch",
    "Clusters",
    "Matrix",
    "Member",
    "Outline",
    "PairValues",
    "Place",
    "cluster_members",
    "compare_members",
    "keep_matrix",
    "kept_matrix",
    "matrix_file",
    "matrix_values",
    "open_set",
    "pair_rows",
    "pairs_csv",
    "write_pairs",
]
