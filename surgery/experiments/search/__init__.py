"""Search for the edit that is best in what a person cares about, several things at once."""

from surgery.experiments.search.folder import (
    ABOUT,
    StoredSearch,
    delete_search,
    keep_about,
    search_key,
    stored_searches,
)
from surgery.experiments.search.front import BROKEN, MEASURED, OUTCOMES, REFUSED, STOPPED, Trial, front, warning
from surgery.experiments.search.measuring import Judges
from surgery.experiments.search.objectives import (
    OBJECTIVES,
    OWN,
    PROTECTED,
    TASK,
    Objective,
    kept_share,
    objectives_named,
)
from surgery.experiments.search.plan import (
    SearchPlan,
    parse_search,
    read_judges,
    search_record,
    seen_by_name,
    settings,
)
from surgery.experiments.search.race import LEVEL, dominated, looks, surely_worse
from surgery.experiments.search.run import Search, SearchLimits, search
from surgery.experiments.search.space import KNOBS, PARTS, Room, SearchSpace, room_of
from surgery.experiments.search.study import JOURNAL, Study, stored_trials
from surgery.experiments.search.task_rows import TaskRows, task_rows

__all__ = [
    "ABOUT",
    "BROKEN",
    "JOURNAL",
    "KNOBS",
    "LEVEL",
    "MEASURED",
    "OBJECTIVES",
    "OUTCOMES",
    "OWN",
    "PARTS",
    "PROTECTED",
    "REFUSED",
    "STOPPED",
    "TASK",
    "Judges",
    "Objective",
    "Room",
    "Search",
    "SearchLimits",
    "SearchPlan",
    "SearchSpace",
    "StoredSearch",
    "Study",
    "TaskRows",
    "Trial",
    "delete_search",
    "dominated",
    "front",
    "keep_about",
    "kept_share",
    "looks",
    "objectives_named",
    "parse_search",
    "read_judges",
    "room_of",
    "search",
    "search_key",
    "search_record",
    "seen_by_name",
    "settings",
    "stored_searches",
    "stored_trials",
    "surely_worse",
    "task_rows",
    "warning",
]
