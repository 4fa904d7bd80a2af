"""Fetch named files of the hub at one commit, or say why that cannot be."""

from surgery.hub.cache import Cached, cached_files, commit_in_cache
from surgery.hub.fetching import Fetched, Listing, fetch_files, look_up
from surgery.hub.names import HubName, Repository, hub_name, is_commit
from surgery.hub.refusals import hub_refusal

__all__ = [
    "Cached",
    "Fetched",
    "HubName",
    "Listing",
    "Repository",
    "cached_files",
    "commit_in_cache",
    "fetch_files",
    "hub_name",
    "hub_refusal",
    "is_commit",
    "look_up",
]
