"""Many adapters side by side: a folder of them, or the checkpoints of a training."""

from surgery.adapter_sets.adapter_set import MOST_BYTES, AdapterSet, Member, Outline, open_set
from surgery.adapter_sets.film import Film, ModuleFilm, make_film, training_film
from surgery.adapter_sets.film_means import FILM_MEASURES, FilmMeans, film_means, film_values

__all__ = [
    "FILM_MEASURES",
    "MOST_BYTES",
    "AdapterSet",
    "Film",
    "FilmMeans",
    "Member",
    "ModuleFilm",
    "Outline",
    "film_means",
    "film_values",
    "make_film",
    "open_set",
    "training_film",
]
