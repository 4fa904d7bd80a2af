"""Search for the edit that is best in what a person cares about, several things at once."""

from surgery.experiments.search.folder import StoredSearch, delete_search, stored_searches
from surgery.experiments.search.front import BROKEN, MEASURED, OUTCOMES, REFUSED, STOPPED, Trial, front, warning
from surgery.experiments.search.objectives import (
    OBJECTIVES,
    OWN,
    PROTECTED,
    Objective,
    kept_share,
    objectives_named,
)
from surgery.experiments.search.plan import SearchPlan, parse_search, read_judges, search_record, settings
from surgery.experiments.search.run import Search, SearchLimits, search
from surgery.experiments.search.space import PARTS, SearchSpace

__all__ = [
    "BROKEN",
    "MEASURED",
    "OBJECTIVES",
    "OUTCOMES",
    "OWN",
    "PARTS",
    "PROTECTED",
    "REFUSED",
    "STOPPED",
    "Objective",
    "Search",
    "SearchLimits",
    "SearchPlan",
    "SearchSpace",
    "StoredSearch",
    "Trial",
    "delete_search",
    "front",
    "kept_share",
    "objectives_named",
    "parse_search",
    "read_judges",
    "search",
    "search_record",
    "settings",
    "stored_searches",
    "warning",
]
