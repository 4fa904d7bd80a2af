"""Many adapters side by side: a folder of them, or the checkpoints of a training."""

from surgery.adapter_sets.adapter_set import MOST_BYTES, AdapterSet, Member, Outline, open_set
from surgery.adapter_sets.clusters import Branch, Clusters, cluster_members
from surgery.adapter_sets.film import Film, ModuleFilm, make_film, training_film
from surgery.adapter_sets.film_file import film_file, keep_film, kept_film
from surgery.adapter_sets.film_means import FILM_MEASURES, FilmMeans, film_means, film_values
from surgery.adapter_sets.kept_arrays import keep_arrays, kept_arrays
from surgery.adapter_sets.matrix import Matrix, Place, compare_members
from surgery.adapter_sets.matrix_file import keep_matrix, kept_matrix, matrix_file
from surgery.adapter_sets.matrix_table import pair_rows, pairs_csv, write_pairs
from surgery.adapter_sets.matrix_values import COSINE, LEVEL, MATRIX_MEASURES, PairValues, matrix_values

__all__ = [
    "COSINE",
    "FILM_MEASURES",
    "LEVEL",
    "MATRIX_MEASURES",
    "MOST_BYTES",
    "AdapterSet",
    "Branch",
    "Clusters",
    "Film",
    "FilmMeans",
    "Matrix",
    "Member",
    "ModuleFilm",
    "Outline",
    "PairValues",
    "Place",
    "cluster_members",
    "compare_members",
    "film_file",
    "film_means",
    "film_values",
    "keep_arrays",
    "keep_film",
    "keep_matrix",
    "kept_arrays",
    "kept_film",
    "kept_matrix",
    "make_film",
    "matrix_file",
    "matrix_values",
    "open_set",
    "pair_rows",
    "pairs_csv",
    "training_film",
    "write_pairs",
]
